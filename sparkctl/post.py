"""Posts an interrupt, and follows it until the model has seen it."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from datetime import tzinfo
from uuid import uuid4

import grpc

from spark.agent.v1.interrupt_pb2 import Interrupt, InterruptState
from spark.gateway.v1.gateway_service_pb2 import (
    PostInterruptRequest,
    PostInterruptResponse,
    WatchInterruptRequest,
)
from sparkctl.connections import Gateway, backoff
from sparkctl.failures import CallFailed, CommandFailed
from sparkctl.words import facts, state

_OUTCOME_UNKNOWN = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


async def post(gateway: Gateway, interrupt: Interrupt, request_id: str) -> PostInterruptResponse:
    """Post, once however often it is tried. An empty request id gets one; an error that leaves the outcome
    open names it."""
    request = PostInterruptRequest(interrupt=interrupt, request_id=request_id or str(uuid4()))
    try:
        return await gateway.ask_again(gateway.stub.PostInterrupt, request)
    except CallFailed as failure:
        if failure.code not in _OUTCOME_UNKNOWN:
            raise
        same = f"--request-id {request.request_id}"
        if interrupt.HasField("expire_time"):
            same += f" --expires-at {interrupt.expire_time.ToJsonString()}"
        text = f"{failure}; to post it once and no more, repeat it with {same}"
        raise CallFailed(text, failure.code, failure.reason) from None


async def wait_until_seen(
    gateway: Gateway,
    interrupt: Interrupt,
    timeout_seconds: float | None,
    tell: Callable[[str], None],
    zone: tzinfo | None = None,
) -> None:
    """Follow a posted interrupt and tell each fact that comes after it. Raises CommandFailed if it is settled
    instead of seen, or if the time is over."""
    newest, told = interrupt, len(facts(interrupt, zone))
    try:
        async with asyncio.timeout(timeout_seconds):
            async with aclosing(_follow(gateway, interrupt.interrupt_id)) as states:
                async for newest in states:
                    known = facts(newest, zone)
                    for fact in known[told:]:
                        tell(fact)
                    told = len(known)
    except TimeoutError:
        raise CommandFailed(f"not seen within {timeout_seconds:g} s, still {state(newest)}") from None
    if newest.state != InterruptState.INTERRUPT_STATE_SEEN:
        raise CommandFailed(f"not seen, but {state(newest)}")


async def _follow(gateway: Gateway, interrupt_id: str) -> AsyncGenerator[Interrupt]:
    """The states of an interrupt until it is final, whatever becomes of the connection."""
    delays_seconds = backoff()
    while True:
        try:
            request = WatchInterruptRequest(interrupt_id=interrupt_id)
            async with aclosing(gateway.listen(gateway.stub.WatchInterrupt, request)) as responses:
                async for response in responses:
                    yield response.interrupt
            return
        except CallFailed as failure:
            if not failure.unavailable:
                raise
        await asyncio.sleep(next(delays_seconds))
