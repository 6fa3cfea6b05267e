"""The gateway's methods: check, forward, answer."""
# ruff: noqa: N802 (the names of the methods are the contract's)

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TypeAlias, TypeVar
from uuid import uuid4

import grpc
import structlog

from gateway import policy
from gateway.agent_client import AgentClient
from gateway.errors import GatewayError, InvalidField, Stopping, refused_post
from spark.agent.v1 import agent_service_pb2 as agent_pb
from spark.gateway.v1 import gateway_service_pb2 as pb
from spark.gateway.v1.gateway_service_pb2_grpc import GatewayServiceServicer

Request = TypeVar("Request")
Response = TypeVar("Response")
Context: TypeAlias = grpc.aio.ServicerContext[Request, Response]

# Callers have no identity yet.
NOBODY = ""

MAX_POSTS = 500
MAX_BATCH_BYTES = 3 * 1024 * 1024

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
        (outcome,) = await self._post_all([request], context.time_remaining())
        match outcome:
            case agent_pb.DepositResult(interrupt=interrupt, duplicate=duplicate):
                log.info(
                    "interrupt posted",
                    interrupt_id=interrupt.interrupt_id,
                    session_id=interrupt.session_id,
                    duplicate=duplicate,
                )
                return pb.PostInterruptResponse(interrupt=interrupt, duplicate=duplicate)
            case GatewayError(code=code):
                log.info("interrupt refused", code=code.name)
        raise outcome

    async def BatchPostInterrupts(
        self,
        request: pb.BatchPostInterruptsRequest,
        context: Context[pb.BatchPostInterruptsRequest, pb.BatchPostInterruptsResponse],
    ) -> pb.BatchPostInterruptsResponse:
        if len(request.requests) > MAX_POSTS:
            raise InvalidField("requests", f"has more than {MAX_POSTS} posts")
        if request.ByteSize() > MAX_BATCH_BYTES:
            raise InvalidField("requests", f"has more than {MAX_BATCH_BYTES} bytes")
        outcomes = await self._post_all(request.requests, context.time_remaining())
        response = pb.BatchPostInterruptsResponse()
        for outcome in outcomes:
            _tell(outcome, response.results.add())
        log.info("interrupts posted", **Counter(map(_fact, outcomes)))
        return response

    async def GetInterrupt(
        self,
        request: pb.GetInterruptRequest,
        context: Context[pb.GetInterruptRequest, pb.GetInterruptResponse],
    ) -> pb.GetInterruptResponse:
        forwarded = agent_pb.GetInterruptRequest(interrupt_id=request.interrupt_id)
        response = await self._agent.get(forwarded, context.time_remaining())
        return pb.GetInterruptResponse(interrupt=response.interrupt)

    async def ListInterrupts(
        self,
        request: pb.ListInterruptsRequest,
        context: Context[pb.ListInterruptsRequest, pb.ListInterruptsResponse],
    ) -> pb.ListInterruptsResponse:
        forwarded = agent_pb.ListInterruptsRequest(
            session_id=request.session_id,
            states=request.states,
            page_size=request.page_size,
            page_token=request.page_token,
        )
        page = await self._agent.page(forwarded, context.time_remaining())
        return pb.ListInterruptsResponse(interrupts=page.interrupts, next_page_token=page.next_page_token)

    async def CancelInterrupt(
        self,
        request: pb.CancelInterruptRequest,
        context: Context[pb.CancelInterruptRequest, pb.CancelInterruptResponse],
    ) -> pb.CancelInterruptResponse:
        forwarded = agent_pb.CancelInterruptRequest(interrupt_id=request.interrupt_id)
        response = await self._agent.cancel(forwarded, context.time_remaining())
        log.info("interrupt cancelled", interrupt_id=response.interrupt.interrupt_id)
        return pb.CancelInterruptResponse(interrupt=response.interrupt)

    async def WatchInterrupt(
        self,
        request: pb.WatchInterruptRequest,
        context: Context[pb.WatchInterruptRequest, pb.WatchInterruptResponse],
    ) -> AsyncGenerator[pb.WatchInterruptResponse, None]:
        states = self._agent.watch(
            agent_pb.WatchInterruptRequest(interrupt_id=request.interrupt_id), context.time_remaining()
        )
        async with aclosing(_until(self._stopping, states)) as shown:
            async for state in shown:
                yield pb.WatchInterruptResponse(interrupt=state.interrupt)

    async def _post_all(
        self, requests: Sequence[pb.PostInterruptRequest], deadline_seconds: float | None
    ) -> list[agent_pb.DepositResult | BaseException]:
        """Forward posts together. Each fails alone."""
        # Chosen before the first forward, so that no repetition of it can post twice.
        request_ids = [request.request_id or str(uuid4()) for request in requests]
        admitted = list(map(_admitted, requests, request_ids))
        deposits = [one for one in admitted if isinstance(one, agent_pb.Deposit)]
        results = iter(await self._agent.deposit_all(deposits, deadline_seconds))
        outcomes = (next(results) if isinstance(one, agent_pb.Deposit) else one for one in admitted)
        return list(map(_told, outcomes, requests, request_ids))


def _admitted(request: pb.PostInterruptRequest, request_id: str) -> agent_pb.Deposit | GatewayError:
    try:
        deposit = policy.admit(NOBODY, request)
    except GatewayError as error:
        return error
    deposit.request_id = request_id
    return deposit


def _told(
    outcome: agent_pb.DepositResult | BaseException, request: pb.PostInterruptRequest, request_id: str
) -> agent_pb.DepositResult | BaseException:
    """The outcome for the caller: an error names the request id that the caller did not choose."""
    if isinstance(outcome, GatewayError) and not request.request_id:
        return outcome.naming(request_id)
    return outcome


def _fact(outcome: agent_pb.DepositResult | BaseException) -> str:
    """What is counted of it in the log."""
    match outcome:
        case GatewayError(code=code):
            return code.name
        case agent_pb.DepositResult(duplicate=True):
            return "duplicate"
        case _:
            return "posted"


def _tell(outcome: agent_pb.DepositResult | BaseException, result: pb.PostResult) -> None:
    match outcome:
        case agent_pb.DepositResult(interrupt=interrupt, duplicate=duplicate):
            result.interrupt.CopyFrom(interrupt)
            result.duplicate = duplicate
        case GatewayError():
            result.error.CopyFrom(refused_post(outcome))
        case unexpected:
            raise unexpected


async def _until(
    stopping: asyncio.Event, responses: AsyncGenerator[Response, None]
) -> AsyncGenerator[Response, None]:
    """Yield what comes, and close what it comes from. Raises Stopping when the gateway stops, for which a
    stream must not be waited."""
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
        await asyncio.wait((coming,))
        await responses.aclose()
