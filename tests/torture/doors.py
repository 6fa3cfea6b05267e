"""Calls at the services' doors, each written down with what came of it."""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import grpc
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from spark.agent.v1.agent_service_pb2_grpc import AgentServiceStub
from spark.gateway.v1.gateway_service_pb2 import PostError
from spark.gateway.v1.gateway_service_pb2_grpc import GatewayServiceStub
from tests.torture.fleet import AGENTS, GATEWAYS, Fleet
from tests.torture.history import History, as_json

PATIENCE_SECONDS = 4.0

# Whoever is told one of these does not know what came of the call, and may try again.
UNKNOWN = {"UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED"}

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
        return self.code in UNKNOWN


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
            error = raised
        told = _error(error.code().name, rpc_status.from_call(error), error.details()) if error else None
        if method == "BatchPostInterrupts":
            self._write_batch(began, by, request.requests, answer and answer.results, told)
        else:
            self._write(began, by, method, request, answer and as_json(answer), told)
        return Answered(answer, told["code"] if told else "OK")

    async def follow(self, by: str, method: str, request: Message) -> AsyncIterator[Message]:
        """What a stream brings, to its end, whatever that is. Leaving gives it up."""
        stream = self.history.new_stream()
        line = {"stream": stream, "by": by, "door": self.name, "method": method}
        self.history.write("opened", **line, request=as_json(request))
        code, message = "CANCELLED", "given up"
        call = getattr(self.stub, method)(request)
        try:
            async for response in call:
                self.history.write("got", stream=stream, response=as_json(response))
                yield response
            code, message = "OK", ""
        except grpc.aio.AioRpcError as error:
            code, message = error.code().name, error.details()
        finally:
            call.cancel()
            self.history.write("closed", stream=stream, code=code, message=message)

    def _write(
        self, began: float, by: str, method: str, request: Message, answer: object, error: object, **more: int
    ) -> None:
        self.history.write(
            "call",
            began=began,
            by=by,
            door=self.name,
            method=method,
            request=as_json(request),
            answer=answer,
            error=error,
            **more,
        )

    def _write_batch(
        self,
        began: float,
        by: str,
        requests: Sequence[Message],
        results: Sequence[Message] | None,
        error: dict | None,
    ) -> None:
        """A line for each post of a batch."""
        for n, request in enumerate(requests):
            answer, told = None, error
            if results and results[n].HasField("error"):
                told = _post_error(results[n].error)
            elif results:
                answer = as_json(results[n])
            self._write(began, by, "PostInterrupt", request, answer, told, batch=len(requests))


def _post_error(error: PostError) -> dict:
    status = Status(code=error.code, message=error.message, details=error.details)
    return _error(code_name(error.code), status, error.message)


def code_name(number: int) -> str:
    return next(code.name for code in grpc.StatusCode if code.value[0] == number)


def _error(code: str, status: Status | None, message: str) -> dict:
    info = ErrorInfo()
    found = any(packed.Unpack(info) for packed in status.details) if status else False
    return {"code": code, "reason": info.reason if found else None, "message": message}


@dataclass(frozen=True)
class Doors:
    agents: Sequence[Door]
    gateways: Sequence[Door]


@asynccontextmanager
async def doors(fleet: Fleet, history: History) -> AsyncIterator[Doors]:
    async with AsyncExitStack() as stack:

        async def door(name: str, stub: type) -> Door:
            channel = grpc.aio.insecure_channel(fleet.door(name), options=_OPTIONS)
            return Door(name, stub(await stack.enter_async_context(channel)), history)

        yield Doors(
            [await door(name, AgentServiceStub) for name in AGENTS],
            [await door(name, GatewayServiceStub) for name in GATEWAYS],
        )
