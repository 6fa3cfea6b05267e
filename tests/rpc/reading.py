"""Readers of streams of the transcript, and what they have read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

from agent_service.domain import DeltaKind, SessionId, Speaker, TextDelta
from agent_service.rpc.streams import LiveStreams
from agent_service.rpc.tail import Hearing
from spark.agent.v1.agent_service_pb2 import StreamTranscriptResponse
from spark.agent.v1.event_pb2 import Event
from tests.rpc.conftest import LONG, live_streams
from tests.support import Store


class Reader:
    """Reads a stream of the transcript, as far as a test says."""

    def __init__(self, responses: AsyncGenerator[StreamTranscriptResponse, None]) -> None:
        self._responses = responses
        self.events: list[Event] = []
        self.last_revision = -1

    async def next(self) -> StreamTranscriptResponse:
        async with asyncio.timeout(10):
            response = await anext(self._responses)
        self.events += response.events
        self.last_revision = response.last_revision
        return response

    async def until_synced(self) -> list[Event]:
        while not (await self.next()).synced:
            pass
        return self.events

    async def until(self, kind: str) -> list[Event]:
        while not any(event.WhichOneof("event") == kind for event in self.events):
            await self.next()
        return self.events

    async def until_end(self) -> list[Event]:
        try:
            while True:
                await self.next()
        except StopAsyncIteration:
            return self.events


@asynccontextmanager
async def reading(
    store: Store,
    session_id: SessionId,
    after_revision: int = 0,
    include_deltas: bool = False,
    poll_seconds: float = LONG,
    notice_seconds: float = LONG,
    stopping: asyncio.Event | None = None,
) -> AsyncIterator[Reader]:
    """A stream that hears of news by hints alone, unless told otherwise."""
    live = live_streams(store, poll_seconds, notice_seconds, stopping)
    async with reading_of(live, session_id, after_revision, include_deltas) as reader:
        yield reader


@asynccontextmanager
async def reading_of(
    live: LiveStreams, session_id: SessionId, after_revision: int = 0, include_deltas: bool = False
) -> AsyncIterator[Reader]:
    hearing = Hearing.EVERYWHERE if include_deltas else Hearing.NOTHING
    async with aclosing(live.transcript(session_id, after_revision, hearing)) as responses:
        yield Reader(responses)


def revisions(events: list[Event]) -> list[int]:
    return [event.revision for event in events]


def kinds(events: list[Event]) -> list[str]:
    return [event.WhichOneof("event") or "" for event in events]


def in_bytes(events: list[Event]) -> list[bytes]:
    return [event.SerializeToString(deterministic=True) for event in events]


def texts(events: list[Event]) -> list[str]:
    return [event.text_delta.text for event in events if event.HasField("text_delta")]


def words(text: str, turn: int = 1, round: int = 1, attempt: int = 1) -> TextDelta:
    speaker = Speaker.ASSISTANT if round else Speaker.INNER_VOICE
    return TextDelta(turn, round, attempt, speaker, DeltaKind.TEXT, 0, text)
