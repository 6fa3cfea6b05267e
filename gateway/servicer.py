"""The gateway's methods: check, forward, answer."""
# ruff: noqa: N802 (the names of the methods are the contract's)

import asyncio
from collections.abc import AsyncIterator
from typing import TypeAlias, TypeVar
from uuid import uuid4

import grpc
import structlog

from gateway import policy
from gateway.agent_client import AgentClient
from gateway.errors import GatewayError, NotServed, Stopping
from spark.agent.v1 import agent_service_pb2 as agent_pb
from spark.gateway.v1 import gateway_service_pb2 as pb
from spark.gateway.v1.gateway_service_pb2_grpc import GatewayServiceServicer

Request = TypeVar("Request")
Response = TypeVar("Response")
Context: TypeAlias = grpc.aio.ServicerContext[Request, Response]

# Callers have no identity yet.
NOBODY = ""

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


class GatewayServicer(GatewayServiceServicer):
    """Holds no state: OK means that the agent service has committed. Raises GatewayError."""

    def __init__(self, agent: AgentClient, stopping: asyncio.Event) -> None:
        self._agent, self._stopping = agent, stopping

    async def PostInterrupt(
        self,
        request: pb.PostInterruptRequest,
        context: Context[pb.PostInterruptRequest, pb.PostInterruptResponse],
    ) -> pb.PostInterruptResponse:
        deposit = policy.admit(NOBODY, request)
        # Chosen before the first forward, so that no repetition of it can post twice.
        deposit.request_id = request.request_id or str(uuid4())
        try:
            result = await self._agent.deposit(deposit, context.time_remaining())
        except GatewayError as error:
            log.info("interrupt refused", code=error.code.name)
            if request.request_id:
                raise
            raise error.naming(deposit.request_id) from error
        log.info(
            "interrupt posted",
            interrupt_id=result.interrupt.interrupt_id,
            session_id=result.interrupt.session_id,
            duplicate=result.duplicate,
        )
        return pb.PostInterruptResponse(interrupt=result.interrupt, duplicate=result.duplicate)

    async def WatchInterrupt(
        self,
        request: pb.WatchInterruptRequest,
        context: Context[pb.WatchInterruptRequest, pb.WatchInterruptResponse],
    ) -> AsyncIterator[pb.WatchInterruptResponse]:
        states = self._agent.watch(
            agent_pb.WatchInterruptRequest(interrupt_id=request.interrupt_id), context.time_remaining()
        )
        async for state in _until(self._stopping, states):
            yield pb.WatchInterruptResponse(interrupt=state.interrupt)

    async def BatchPostInterrupts(
        self, request: pb.BatchPostInterruptsRequest, context: object
    ) -> pb.BatchPostInterruptsResponse:
        raise NotServed

    async def GetInterrupt(self, request: pb.GetInterruptRequest, context: object) -> pb.GetInterruptResponse:
        raise NotServed

    async def ListInterrupts(
        self, request: pb.ListInterruptsRequest, context: object
    ) -> pb.ListInterruptsResponse:
        raise NotServed

    async def CancelInterrupt(
        self, request: pb.CancelInterruptRequest, context: object
    ) -> pb.CancelInterruptResponse:
        raise NotServed


async def _until(stopping: asyncio.Event, responses: AsyncIterator[Response]) -> AsyncIterator[Response]:
    """Yield what comes. Raises Stopping when the gateway stops, for which a stream must not be waited."""
    stop = asyncio.ensure_future(stopping.wait())
    coming = asyncio.ensure_future(anext(responses, None))
    try:
        while await asyncio.wait((stop, coming), return_when=asyncio.FIRST_COMPLETED):
            if not coming.done():
                raise Stopping
            if (response := coming.result()) is None:
                return
            yield response
            coming = asyncio.ensure_future(anext(responses, None))
    finally:
        stop.cancel()
        coming.cancel()
