"""Calls at the services' doors, each written down with what came of it."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import grpc
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from spark.agent.v1.agent_service_pb2_grpc import AgentServiceStub
from spark.gateway.v1.gateway_service_pb2 import (
    BatchPostInterruptsRequest,
    BatchPostInterruptsResponse,
    PostError,
)
from spark.gateway.v1.gateway_service_pb2_grpc import GatewayServiceStub
from tests.torture.history import History, as_json

PATIENCE_SECONDS = 4.0

# Whoever is told one of these does not know what came of the call, and may try again.
_UNKNOWN = {"UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED"}

_OPTIONS = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    # Everyone has connections of their own.
    ("grpc.use_local_subchannel_pool", 1),
)


@dataclass(frozen=True)
class Answered:
    """By a message, or by the status of an error."""

    message: Message | None
    code: str = "OK"

    @property
    def is_unknown(self) -> bool:
        return self.code in _UNKNOWN


@dataclass(frozen=True)
class Door:
    name: str
    stub: AgentServiceStub | GatewayServiceStub
    history: History

    async def call(self, by: str, method: str, request: Message) -> Answered:
        began, answer, error = time.time(), None, None
        try:
            answer = await getattr(self.stub, method)(request, timeout=PATIENCE_SECONDS)
        except grpc.aio.AioRpcError as raised:
            error = _error(raised.code().name, rpc_status.from_call(raised), raised.details())
        line = {"began": began, "by": by, "door": self.name, "method": method}
        if method == "BatchPostInterrupts":
            for post in _posts(request, answer, error):
                self.history.write("call", **line | post)
        else:
            told = as_json(answer) if answer else None
            self.history.write("call", **line, request=as_json(request), answer=told, error=error)
        return Answered(answer, error["code"] if error else "OK")

    async def follow(
        self, by: str, method: str, request: Message, seconds: float, hear: Callable[[Message], object]
    ) -> str:
        """Hear what a stream brings, until that is enough, for so long at most. Gives the code with which it
        ended."""
        stream = self.history.new_stream()
        line = {"stream": stream, "by": by, "door": self.name, "method": method}
        self.history.write("opened", **line, request=as_json(request))
        code, message = "CANCELLED", "given up"
        call = getattr(self.stub, method)(request)
        try:
            async with asyncio.timeout(seconds):
                async for response in call:
                    self.history.write("got", stream=stream, response=as_json(response))
                    if hear(response):
                        break
                else:
                    code, message = "OK", ""
        except TimeoutError:
            pass
        except grpc.aio.AioRpcError as error:
            code, message = error.code().name, error.details()
        finally:
            call.cancel()
            self.history.write("closed", stream=stream, code=code, message=message)
        return code


def _posts(
    batch: BatchPostInterruptsRequest, answer: BatchPostInterruptsResponse | None, error: dict | None
) -> Iterator[dict]:
    """Each post of a batch, as if it had come alone."""
    for n, request in enumerate(batch.requests):
        told, failed = None, error
        if answer and answer.results[n].HasField("error"):
            failed = _post_error(answer.results[n].error)
        elif answer:
            told = as_json(answer.results[n])
        line = {"method": "PostInterrupt", "request": as_json(request), "answer": told, "error": failed}
        yield line | {"batch": len(batch.requests)}


def _post_error(error: PostError) -> dict:
    code = next(code.name for code in grpc.StatusCode if code.value[0] == error.code)
    return _error(code, Status(details=error.details), error.message)


def _error(code: str, status: Status | None, message: str) -> dict:
    info = ErrorInfo()
    found = any(packed.Unpack(info) for packed in status.details) if status else False
    return {"code": code, "reason": info.reason if found else None, "message": message}


@dataclass(frozen=True)
class Doors:
    agents: Sequence[Door]
    gateways: Sequence[Door]


@asynccontextmanager
async def doors(
    history: History, agents: Mapping[str, str], gateways: Mapping[str, str]
) -> AsyncIterator[Doors]:
    """Those of services at these addresses, by name."""
    async with AsyncExitStack() as stack:

        async def door(name: str, address: str, stub: type) -> Door:
            channel = grpc.aio.insecure_channel(address, options=_OPTIONS)
            return Door(name, stub(await stack.enter_async_context(channel)), history)

        yield Doors(
            [await door(*named, AgentServiceStub) for named in agents.items()],
            [await door(*named, GatewayServiceStub) for named in gateways.items()],
        )
