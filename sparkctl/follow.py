"""The events of a session, on and on: a stream that is cut is opened again where it stopped."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeAlias

from spark.agent.v1.agent_service_pb2 import StreamTranscriptRequest
from spark.agent.v1.event_pb2 import Event
from spark.agent.v1.interrupt_pb2 import Interrupt
from sparkctl.connections import AgentService, backoff
from sparkctl.failures import CallFailed
from sparkctl.interrupts import OUTSTANDING, listed


@dataclass(frozen=True, slots=True)
class Disconnected:
    since: datetime


@dataclass(frozen=True, slots=True)
class Connected:
    """The stream goes on after a Disconnected, and nothing was missed but deltas."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Interrupts posted before the first event that are neither seen nor settled."""

    interrupts: Sequence[Interrupt]


Notice: TypeAlias = Disconnected | Connected | Waiting
News: TypeAlias = Sequence[Event] | Notice


async def follow(
    agent: AgentService, session_id: str, after_revision: int, include_deltas: bool
) -> AsyncGenerator[News]:
    """Yield the events after a revision until the session has ended; before them, what waits from before it.

    Raises CallFailed, but not for an agent service that was there and becomes unavailable: that is told once,
    and tried again.
    """
    if waiting := await _waiting(agent, session_id, after_revision):
        yield Waiting(waiting)
    request = StreamTranscriptRequest(
        session_id=session_id, after_revision=after_revision, include_deltas=include_deltas
    )
    delays_seconds = backoff()
    known = disconnected = False
    while True:
        try:
            async with aclosing(agent.listen(agent.stub.StreamTranscript, request)) as responses:
                async for response in responses:
                    if disconnected:
                        yield Connected()
                    known, disconnected, delays_seconds = True, False, backoff()
                    request.after_revision = max(request.after_revision, response.last_revision)
                    yield response.events
            return
        except CallFailed as failure:
            if not (failure.unavailable and known):
                raise
        if not disconnected:
            yield Disconnected(datetime.now(UTC))
            disconnected = True
        await asyncio.sleep(next(delays_seconds))


async def _waiting(agent: AgentService, session_id: str, revision: int) -> list[Interrupt]:
    if not revision:
        return []
    outstanding = listed(agent, session_id, OUTSTANDING)
    return [interrupt async for interrupt in outstanding if interrupt.revision <= revision]
