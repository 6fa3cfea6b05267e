"""A gRPC server that plays the agent service's part: it records what it gets and answers as it is told."""
# ruff: noqa: N802 (the names of the methods are the contract's)

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from spark.agent.v1 import agent_service_pb2 as pb
from spark.agent.v1.agent_service_pb2_grpc import AgentServiceServicer, add_AgentServiceServicer_to_server
from spark.agent.v1.interrupt_pb2 import Interrupt

SERVICE = "spark.agent.v1.AgentService"
STATUS = health_pb2.HealthCheckResponse.ServingStatus

Context = grpc.aio.ServicerContext


def deposited(deposit: pb.Deposit) -> pb.DepositResult:
    """What an agent service that takes everything answers; the id shows which deposit it is about."""
    result = pb.DepositResult()
    result.interrupt.CopyFrom(deposit.interrupt)
    result.interrupt.interrupt_id = f"of {deposit.request_id}"
    return result


class ScriptedAgent(AgentServiceServicer):
    def __init__(self) -> None:
        self.calls: list[pb.DepositInterruptsRequest] = []
        self.seconds_left: list[float | None] = []
        self.watched: list[str] = []
        self.watches_ended = 0
        self.answer: Callable[[pb.Deposit], pb.DepositResult] = deposited
        self.forgets_the_last_result = False
        self.before: Callable[[Context], Awaitable[None]] = at_once
        self.asked: list[Message] = []
        self.interrupt = Interrupt(interrupt_id="i1", revision=7)
        self.page = pb.ListInterruptsResponse()
        self.states: asyncio.Queue[Interrupt | None] = asyncio.Queue()

    async def DepositInterrupts(self, request, context):
        self.calls.append(request)
        self.seconds_left.append(context.time_remaining())
        await self.before(context)
        results = [self.answer(one) for one in request.deposits]
        return pb.DepositInterruptsResponse(results=results[:-1] if self.forgets_the_last_result else results)

    async def GetInterrupt(self, request, context):
        return pb.GetInterruptResponse(interrupt=await self._found(request, context))

    async def CancelInterrupt(self, request, context):
        return pb.CancelInterruptResponse(interrupt=await self._found(request, context))

    async def ListInterrupts(self, request, context):
        await self._found(request, context)
        return self.page

    async def _found(self, request, context):
        self.asked.append(request)
        self.seconds_left.append(context.time_remaining())
        await self.before(context)
        return self.interrupt

    async def WatchInterrupt(self, request, context):
        self.watched.append(request.interrupt_id)
        self.seconds_left.append(context.time_remaining())
        try:
            await self.before(context)
            while interrupt := await self.states.get():
                yield pb.WatchInterruptResponse(interrupt=interrupt)
        finally:
            self.watches_ended += 1


async def at_once(context: Context) -> None:
    pass


class RunningAgent:
    """A started ScriptedAgent: its script, its port, and its health."""

    def __init__(self, script: ScriptedAgent, port: int, status: health.aio.HealthServicer) -> None:
        self.script, self.port, self._status = script, port, status

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def set_serving(self, serving: bool) -> None:
        await self._status.set(SERVICE, STATUS.SERVING if serving else STATUS.NOT_SERVING)


@asynccontextmanager
async def running(script: ScriptedAgent, port: int = 0) -> AsyncIterator[RunningAgent]:
    server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
    status = health.aio.HealthServicer()
    await status.set(SERVICE, STATUS.SERVING)
    add_AgentServiceServicer_to_server(script, server)
    health_pb2_grpc.add_HealthServicer_to_server(status, server)
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield RunningAgent(script, port, status)
    finally:
        await server.stop(None)
