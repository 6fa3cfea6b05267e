from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from agent_service.domain import (
    Compacted,
    Content,
    Delivery,
    DeltaKind,
    Event,
    EventType,
    Fact,
    Happening,
    Interrupt,
    InterruptChanged,
    Message,
    MessageAppended,
    MessageId,
    MessageType,
    Nudge,
    RoundFailed,
    RoundFailure,
    RoundStarted,
    Session,
    SessionChanged,
    SessionConfig,
    SessionId,
    SessionState,
    Speaker,
    Text,
    TextDelta,
    ToolCall,
    ToolCallStarted,
    ToolResponse,
    TurnEnd,
    TurnEnded,
    TurnStarted,
)
from agent_service.rpc.convert.event import delta_proto, event_proto, message_proto
from agent_service.rpc.convert.interrupt import interrupt_proto
from agent_service.rpc.convert.session import session_proto
from spark.agent.v1 import event_pb2, message_pb2

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
AT_NOON = Timestamp(seconds=int(NOON.timestamp()))
ID = "0192f0c1-2b3c-7d4e-8f50-0123456789ab"
SESSION_ID, MESSAGE_ID = SessionId(UUID(ID)), MessageId(UUID(ID))

INTERRUPT = Interrupt(
    MESSAGE_ID, SESSION_ID, "operator", "", Nudge("Look."), Delivery.NEXT_ROUND, "", None, Fact(NOON, 3)
)
SESSION = Session(
    SESSION_ID, "", "Keep the lamp.", SessionState.ACTIVE, "", SessionConfig("demo"), {}, 1, 0, NOON
)


def message(kind: MessageType, content: Content, source: str = "", reasoning: str = "") -> Message:
    return Message(MESSAGE_ID, SESSION_ID, 5, kind, content, 2, 1, NOON, source, reasoning)


def row(kind: message_pb2.MessageType.ValueType, **fields: object) -> message_pb2.Message:
    return message_pb2.Message(  # type: ignore[arg-type]
        message_id=ID,
        session_id=ID,
        position=5,
        type=kind,
        turn=2,
        round=1,
        create_time=AT_NOON,
        **fields,
    )


ROWS = [
    (
        message(MessageType.USER, Text("Go on."), source="inner_voice"),
        row(message_pb2.MESSAGE_TYPE_USER, source="inner_voice", text="Go on."),
    ),
    (
        message(MessageType.ASSISTANT, Text("I look."), reasoning="Hm."),
        row(message_pb2.MESSAGE_TYPE_ASSISTANT, text="I look.", reasoning="Hm."),
    ),
    (
        message(MessageType.TOOL_CALL, ToolCall("c1", "now", "{}")),
        row(
            message_pb2.MESSAGE_TYPE_TOOL_CALL,
            tool_call=message_pb2.ToolCall(call_id="c1", name="now", arguments_json="{}"),
        ),
    ),
    (
        message(MessageType.TOOL_RESPONSE, ToolResponse("c1", "now", "late", is_error=True)),
        row(
            message_pb2.MESSAGE_TYPE_TOOL_RESPONSE,
            tool_response=message_pb2.ToolResponse(call_id="c1", name="now", content="late", is_error=True),
        ),
    ),
    (
        message(MessageType.SYSTEM, INTERRUPT, source="operator"),
        row(message_pb2.MESSAGE_TYPE_SYSTEM, source="operator", interrupt=interrupt_proto(INTERRUPT)),
    ),
]


@pytest.mark.parametrize(("stored", "proto"), ROWS, ids=lambda value: "")
def test_a_row_goes_out_with_what_it_says(stored: Message, proto: message_pb2.Message) -> None:
    assert message_proto(stored) == proto


def test_a_row_that_says_nothing_still_tells_its_kind() -> None:
    assert message_proto(message(MessageType.ASSISTANT, Text(""))).WhichOneof("content") == "text"
    no_words = ToolResponse("", "", "")
    assert message_proto(message(MessageType.TOOL_RESPONSE, no_words)).HasField("tool_response")


SUMMARY = replace(message(MessageType.SUMMARY, Text("So far.")), covers_through_position=4)

EVENTS: list[tuple[Happening, dict[str, object]]] = [
    (SessionChanged(SESSION), {"session_changed": event_pb2.SessionChanged(session=session_proto(SESSION))}),
    (TurnStarted(2), {"turn_started": event_pb2.TurnStarted(turn=2)}),
    (RoundStarted(2, 1, 3), {"round_started": event_pb2.RoundStarted(turn=2, round=1, attempt=3)}),
    (
        MessageAppended(ROWS[0][0]),
        {"message_appended": event_pb2.MessageAppended(message=ROWS[0][1])},
    ),
    (
        ToolCallStarted(2, 1, "c1", "now"),
        {"tool_call_started": event_pb2.ToolCallStarted(turn=2, round=1, call_id="c1", name="now")},
    ),
    (
        InterruptChanged(EventType.INTERRUPT_POSTED, INTERRUPT),
        {"interrupt_posted": event_pb2.InterruptPosted(interrupt=interrupt_proto(INTERRUPT))},
    ),
    (
        InterruptChanged(EventType.INTERRUPT_DELIVERED, INTERRUPT),
        {"interrupt_delivered": event_pb2.InterruptDelivered(interrupt=interrupt_proto(INTERRUPT))},
    ),
    (
        InterruptChanged(EventType.INTERRUPT_SEEN, INTERRUPT),
        {"interrupt_seen": event_pb2.InterruptSeen(interrupt=interrupt_proto(INTERRUPT))},
    ),
    (
        InterruptChanged(EventType.INTERRUPT_SETTLED, INTERRUPT),
        {"interrupt_settled": event_pb2.InterruptSettled(interrupt=interrupt_proto(INTERRUPT))},
    ),
    (
        RoundFailed(2, 0, 1, RoundFailure.MODEL_UNAVAILABLE, "no route", NOON),
        {
            "round_failed": event_pb2.RoundFailed(
                turn=2,
                attempt=1,
                reason=event_pb2.ROUND_FAILURE_MODEL_UNAVAILABLE,
                detail="no route",
                retry_time=AT_NOON,
            )
        },
    ),
    (
        RoundFailed(2, 1, 1, RoundFailure.INTERRUPTED, "", None),
        {
            "round_failed": event_pb2.RoundFailed(
                turn=2, round=1, attempt=1, reason=event_pb2.ROUND_FAILURE_INTERRUPTED
            )
        },
    ),
    (
        Compacted(SUMMARY, handled_interrupts=3, cut=True),
        {
            "compacted": event_pb2.Compacted(
                summary=row(message_pb2.MESSAGE_TYPE_SUMMARY, covers_through_position=4, text="So far."),
                handled_interrupts=3,
                cut=True,
            )
        },
    ),
    (
        TurnEnded(2, TurnEnd.ANSWERED),
        {"turn_ended": event_pb2.TurnEnded(turn=2, reason=event_pb2.TURN_END_ANSWERED)},
    ),
]


@pytest.mark.parametrize(("happening", "fields"), EVENTS, ids=lambda value: type(value).__name__)
def test_an_event_goes_out_as_the_one_it_is(happening: Happening, fields: dict[str, object]) -> None:
    expected = event_pb2.Event(revision=9, create_time=AT_NOON, **fields)  # type: ignore[arg-type]
    assert event_proto(Event(9, NOON, happening)) == expected


def test_a_delta_is_an_event_without_revision_and_time() -> None:
    delta = TextDelta(2, 1, 3, Speaker.ASSISTANT, DeltaKind.TOOL_NAME, 4, "now")
    assert delta_proto(delta) == event_pb2.Event(
        text_delta=event_pb2.TextDelta(
            turn=2,
            round=1,
            attempt=3,
            speaker=event_pb2.SPEAKER_ASSISTANT,
            kind=event_pb2.DELTA_KIND_TOOL_NAME,
            offset=4,
            text="now",
        )
    )
