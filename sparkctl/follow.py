"""The events of a session, on and on: a stream that is cut is opened again where it stopped."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeAlias

from spark.agent.v1.agent_service_pb2 import StreamTranscriptRequest
from spark.agent.v1.event_pb2 import Event
from sparkctl.connections import AgentService, backoff
from sparkctl.failures import CallFailed


@dataclass(frozen=True, slots=True)
class Disconnected:
    since: datetime


@dataclass(frozen=True, slots=True)
class Connected:
    """The stream goes on after a Disconnected, and nothing was missed but deltas."""


News: TypeAlias = Sequence[Event] | Disconnected | Connected


async def follow(
    agent: AgentService, session_id: str, after_revision: int, include_deltas: bool
) -> AsyncGenerator[News]:
    """Yield the events after a revision until the session has ended. Raises CallFailed, but not for an agent
    service that was there and becomes unavailable: that is told once, and tried again."""
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
