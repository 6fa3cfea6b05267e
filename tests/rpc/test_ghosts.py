from datetime import UTC, datetime
from uuid import uuid4

import pytest

from agent_service.domain import (
    DeltaKind,
    Event,
    Happening,
    Message,
    MessageAppended,
    MessageId,
    MessageType,
    RoundFailed,
    RoundFailure,
    RoundStarted,
    SessionId,
    Speaker,
    Text,
    TextDelta,
    TurnEnd,
    TurnEnded,
    TurnStarted,
)
from agent_service.rpc import ghosts

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)


def delta(turn: int, round: int, attempt: int) -> TextDelta:
    speaker = Speaker.ASSISTANT if round else Speaker.INNER_VOICE
    return TextDelta(turn, round, attempt, speaker, DeltaKind.TEXT, 0, "words")


def appended(turn: int, round: int, kind: MessageType) -> MessageAppended:
    ids = MessageId(uuid4()), SessionId(uuid4())
    return MessageAppended(Message(*ids, 1, kind, Text("words"), turn, round, NOON))


def alive_after(happening: Happening, delta: TextDelta) -> bool:
    void = ghosts.void_after([Event(1, NOON, happening)], ghosts.NOTHING)
    return bool(ghosts.alive([delta], void))


FAILURE = (RoundFailure.MODEL_UNAVAILABLE, "", None)


@pytest.mark.parametrize(
    ("happening", "voided"),
    [
        (appended(2, 0, MessageType.USER), delta(2, 0, 1)),
        (appended(2, 0, MessageType.USER), delta(2, 0, 9)),
        (appended(2, 1, MessageType.ASSISTANT), delta(2, 1, 1)),
        (appended(2, 1, MessageType.TOOL_CALL), delta(2, 1, 1)),
        (RoundFailed(2, 1, 1, *FAILURE), delta(2, 1, 1)),
        (RoundFailed(2, 0, 1, *FAILURE), delta(2, 0, 1)),
        (RoundStarted(2, 1, 2), delta(2, 1, 1)),
        (RoundStarted(2, 1, 1), delta(2, 0, 3)),
        (RoundStarted(2, 2, 1), delta(2, 1, 7)),
        (TurnEnded(2, TurnEnd.ANSWERED), delta(2, 5, 1)),
        (TurnStarted(3), delta(2, 5, 1)),
    ],
)
def test_text_is_a_ghost_after_the_event_that_ended_its_attempt(
    happening: Happening, voided: TextDelta
) -> None:
    assert not alive_after(happening, voided)


@pytest.mark.parametrize(
    ("happening", "living"),
    [
        (appended(2, 0, MessageType.USER), delta(2, 1, 1)),
        (appended(2, 1, MessageType.ASSISTANT), delta(2, 2, 1)),
        (appended(2, 1, MessageType.TOOL_RESPONSE), delta(2, 1, 1)),
        (appended(2, 1, MessageType.SUMMARY), delta(2, 1, 1)),
        (RoundFailed(2, 1, 1, *FAILURE), delta(2, 1, 2)),
        (RoundFailed(2, 0, 1, *FAILURE), delta(2, 0, 2)),
        (RoundStarted(2, 1, 2), delta(2, 1, 2)),
        (TurnStarted(2), delta(2, 0, 1)),
        (TurnEnded(2, TurnEnd.ANSWERED), delta(3, 0, 1)),
    ],
)
def test_text_of_a_later_attempt_is_alive(happening: Happening, living: TextDelta) -> None:
    assert alive_after(happening, living)


def progress(turn: int, round: int) -> TextDelta:
    return TextDelta(turn, round, 1, Speaker.ASSISTANT, DeltaKind.TOOL_PROGRESS, 0, "1 of 2")


@pytest.mark.parametrize(
    "happening",
    [
        RoundStarted(2, 1, 2),
        appended(2, 1, MessageType.TOOL_CALL),
        appended(2, 1, MessageType.TOOL_RESPONSE),
    ],
)
def test_progress_of_a_tool_is_alive_after_what_the_model_wrote(happening: Happening) -> None:
    assert alive_after(happening, progress(2, 1))


@pytest.mark.parametrize(
    "happening", [RoundStarted(2, 2, 1), TurnEnded(2, TurnEnd.SESSION_ENDED), TurnStarted(3)]
)
def test_progress_of_a_tool_is_a_ghost_after_its_round(happening: Happening) -> None:
    assert not alive_after(happening, progress(2, 1))


def test_what_is_void_stays_void() -> None:
    void = ghosts.void_after([Event(1, NOON, appended(2, 1, MessageType.ASSISTANT))], ghosts.NOTHING)
    assert ghosts.void_after([], void) == void
    assert ghosts.void_after([Event(2, NOON, TurnStarted(1))], void) == void
    assert ghosts.alive([delta(2, 1, 1), delta(2, 2, 1)], void) == [delta(2, 2, 1)]
