"""What tests of compaction play, and what they read of it."""

import asyncio
import json
from collections.abc import Sequence
from itertools import groupby
from typing import TypeVar

from agent_service.domain import (
    Compacted,
    EventType,
    Interrupt,
    InterruptChanged,
    InterruptState,
    JsonObject,
    RoundFailure,
    RoundStarted,
    SessionId,
    Text,
    Usage,
)
from agent_service.model import Chunk, ModelError
from tests.loop.checks import check_requests
from tests.loop.scripted import Script, ScriptedModel, calls
from tests.support import Store

WINDOW = 2000
# Nearly full, and not.
FULL, EMPTY = 1500, 100
LONG = "The watch was long, and the sea was calm. " * 30
OVERFLOW = ModelError(RoundFailure.CONTEXT_OVERFLOW, "HTTP 400")
UNAVAILABLE = ModelError(RoundFailure.MODEL_UNAVAILABLE, "HTTP 503")


def works(used: int = 0, text: str = LONG, arguments: str = "{}", name: str = "now") -> Script:
    """A reply with a tool call, and so many tokens in the context by the server's count (0: it has none)."""
    counted = [Chunk(usage=Usage(used - 10, 0, 10), begun=False)] if used else []
    return [*calls(name, text=text, arguments=arguments), *counted]


def notes(text: str, used: int = EMPTY) -> Script:
    return works(used, arguments=json.dumps({"text": text}), name="note")


T = TypeVar("T")


async def happenings(store: Store, session_id: SessionId, kind: type[T]) -> list[T]:
    page = await store.streams.page(session_id, 0, 10_000)
    return [event.happening for event in page if isinstance(event.happening, kind)]


async def compactions(store: Store, session_id: SessionId) -> list[Compacted]:
    return await happenings(store, session_id, Compacted)


async def attempts(store: Store, session_id: SessionId) -> list[tuple[int, int, int]]:
    """Turn, round and attempt of each round started."""
    started = await happenings(store, session_id, RoundStarted)
    return [(one.turn, one.round, one.attempt) for one in started]


async def delivered(store: Store, session_id: SessionId) -> list[Interrupt]:
    """Each as it was at its delivery."""
    changes = await happenings(store, session_id, InterruptChanged)
    return [change.interrupt for change in changes if change.type is EventType.INTERRUPT_DELIVERED]


async def state(store: Store, interrupt: Interrupt) -> InterruptState:
    return (await store.streams.interrupt(interrupt.interrupt_id)).state


async def forget_pause(store: Store, session_id: SessionId) -> None:
    async with store.database.connection() as connection:
        await connection.execute(
            "UPDATE sessions SET not_before = NULL, due_at = now() WHERE session_id = $1", session_id
        )


def said(compacted: Compacted) -> str:
    assert isinstance(compacted.summary.content, Text)
    return compacted.summary.content.text


def between_compactions(model: ScriptedModel) -> list[list[Sequence[JsonObject]]]:
    """The agent's requests, in runs that begin with a compaction."""

    def opening(messages: Sequence[JsonObject]) -> list[str]:
        return [str(messages[0]["content"]), *str(messages[1]["content"]).split("\n\n")[:2]]

    return [list(run) for _, run in groupby(model.sent, opening)]


def check_all_requests(model: ScriptedModel) -> None:
    """Calls and responses stay together in all of them, and the agent's grow only at their end from one
    compaction to the next."""
    for request in [*model.requests, *model.summary_requests]:
        check_requests([request.messages])
    for run in between_compactions(model):
        check_requests(run)


def tag(messages: Sequence[JsonObject]) -> str:
    """The session's, as the system prompt tells it."""
    return str(messages[0]["content"]).partition("<interrupt-")[2].partition(">")[0]


async def forever() -> None:
    await asyncio.Event().wait()
