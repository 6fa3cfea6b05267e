"""Tells text that is still being written from ghosts: text of an attempt that came to its end.

A piece of text and the event that voids it reach a watcher by different ways, in any order.
"""

from collections.abc import Iterable
from math import inf
from typing import TypeAlias

from agent_service.domain import (
    DeltaKind,
    Event,
    Happening,
    MessageAppended,
    MessageType,
    RoundFailed,
    RoundStarted,
    TextDelta,
    TurnEnded,
    TurnStarted,
)

# Turn, round and attempt. A session asks one model at a time, so these order all that models write.
Mark: TypeAlias = tuple[float, float, float]

NOTHING: Mark = (0, 0, 0)

_WRITTEN_BY_MODELS = (MessageType.USER, MessageType.ASSISTANT, MessageType.TOOL_CALL)


def void_after(events: Iterable[Event], void: Mark) -> Mark:
    """The newest attempt of which nothing may be shown any more, after these events."""
    return max([void, *(_void_by(event.happening) for event in events)])


def alive(deltas: Iterable[TextDelta], void: Mark) -> list[TextDelta]:
    return [delta for delta in deltas if _mark(delta) > void]


def _mark(delta: TextDelta) -> Mark:
    if delta.kind is DeltaKind.TOOL_PROGRESS:
        # Tools run after all that a round's model writes, and before the next round.
        return (delta.turn, delta.round + 0.5, 0)
    return (delta.turn, delta.round, delta.attempt)


def _void_by(happening: Happening) -> Mark:
    match happening:
        case TurnStarted(turn):
            return (turn, 0, 0)
        case RoundStarted(turn, round, attempt):
            return (turn, round, attempt - 1)
        case MessageAppended(message) if message.type in _WRITTEN_BY_MODELS:
            return (message.turn, message.round, inf)
        case RoundFailed(turn, round, attempt):
            return (turn, round, attempt)
        case TurnEnded(turn):
            return (turn, inf, inf)
        case _:
            return NOTHING
