"""Rows of a transcript, events and text deltas on their way out."""

from typing import assert_never

from agent_service.domain import (
    Compacted,
    DeltaKind,
    Event,
    EventType,
    Interrupt,
    InterruptChanged,
    Message,
    MessageAppended,
    MessageType,
    RoundFailed,
    RoundFailure,
    RoundStarted,
    SessionChanged,
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
from agent_service.rpc.convert import enums
from agent_service.rpc.convert.fields import timestamp
from agent_service.rpc.convert.interrupt import interrupt_proto
from agent_service.rpc.convert.session import session_proto
from spark.agent.v1 import event_pb2, message_pb2

_MESSAGE_TYPE_NUMBERS = enums.numbers(MessageType, message_pb2.MessageType.Value, "MESSAGE_TYPE")
_ROUND_FAILURE_NUMBERS = enums.numbers(RoundFailure, event_pb2.RoundFailure.Value, "ROUND_FAILURE")
_TURN_END_NUMBERS = enums.numbers(TurnEnd, event_pb2.TurnEnd.Value, "TURN_END")
_SPEAKER_NUMBERS = enums.numbers(Speaker, event_pb2.Speaker.Value, "SPEAKER")
_SPEAKERS = enums.members(_SPEAKER_NUMBERS)
_DELTA_KIND_NUMBERS = enums.numbers(DeltaKind, event_pb2.DeltaKind.Value, "DELTA_KIND")
_DELTA_KINDS = enums.members(_DELTA_KIND_NUMBERS)


def message_proto(message: Message) -> message_pb2.Message:
    proto = message_pb2.Message(
        message_id=str(message.message_id),
        session_id=str(message.session_id),
        position=message.position,
        covers_through_position=message.covers_through_position,
        type=_MESSAGE_TYPE_NUMBERS[message.type],
        source=message.source,
        turn=message.turn,
        round=message.round,
        create_time=timestamp(message.create_time),
        reasoning=message.reasoning,
    )
    match message.content:
        case Text(text):
            proto.text = text
        case ToolCall(call_id, name, arguments):
            proto.tool_call.MergeFrom(
                message_pb2.ToolCall(call_id=call_id, name=name, arguments_json=arguments)
            )
        case ToolResponse(call_id, name, content, is_error):
            proto.tool_response.MergeFrom(
                message_pb2.ToolResponse(call_id=call_id, name=name, content=content, is_error=is_error)
            )
        case Interrupt() as interrupt:
            proto.interrupt.MergeFrom(interrupt_proto(interrupt))
        case _:
            assert_never(message.content)
    return proto


def event_proto(event: Event) -> event_pb2.Event:
    proto = event_pb2.Event(revision=event.revision, create_time=timestamp(event.create_time))
    match event.happening:
        case SessionChanged(session):
            proto.session_changed.session.MergeFrom(session_proto(session))
        case TurnStarted(turn):
            proto.turn_started.turn = turn
        case RoundStarted(turn, round, attempt):
            proto.round_started.MergeFrom(event_pb2.RoundStarted(turn=turn, round=round, attempt=attempt))
        case MessageAppended(message):
            proto.message_appended.message.MergeFrom(message_proto(message))
        case ToolCallStarted(turn, round, call_id, name):
            proto.tool_call_started.MergeFrom(
                event_pb2.ToolCallStarted(turn=turn, round=round, call_id=call_id, name=name)
            )
        case InterruptChanged() as changed:
            _set_interrupt(proto, changed)
        case RoundFailed() as failed:
            proto.round_failed.MergeFrom(_round_failed_proto(failed))
        case Compacted(summary, handled_interrupts, cut):
            proto.compacted.MergeFrom(
                event_pb2.Compacted(
                    summary=message_proto(summary), handled_interrupts=handled_interrupts, cut=cut
                )
            )
        case TurnEnded(turn, reason):
            proto.turn_ended.MergeFrom(event_pb2.TurnEnded(turn=turn, reason=_TURN_END_NUMBERS[reason]))
        case _:
            assert_never(event.happening)
    return proto


def _set_interrupt(proto: event_pb2.Event, changed: InterruptChanged) -> None:
    interrupt = interrupt_proto(changed.interrupt)
    match changed.type:
        case EventType.INTERRUPT_POSTED:
            proto.interrupt_posted.interrupt.MergeFrom(interrupt)
        case EventType.INTERRUPT_DELIVERED:
            proto.interrupt_delivered.interrupt.MergeFrom(interrupt)
        case EventType.INTERRUPT_SEEN:
            proto.interrupt_seen.interrupt.MergeFrom(interrupt)
        case EventType.INTERRUPT_SETTLED:
            proto.interrupt_settled.interrupt.MergeFrom(interrupt)
        case other:
            raise ValueError(f"{other} is not about an interrupt")


def _round_failed_proto(failed: RoundFailed) -> event_pb2.RoundFailed:
    return event_pb2.RoundFailed(
        turn=failed.turn,
        round=failed.round,
        attempt=failed.attempt,
        reason=_ROUND_FAILURE_NUMBERS[failed.reason],
        detail=failed.detail,
        retry_time=timestamp(failed.retry_time) if failed.retry_time else None,
    )


def delta_proto(delta: TextDelta) -> event_pb2.Event:
    """A piece of text as an event, which has neither revision nor time: it is no fact."""
    return event_pb2.Event(
        text_delta=event_pb2.TextDelta(
            turn=delta.turn,
            round=delta.round,
            attempt=delta.attempt,
            speaker=_SPEAKER_NUMBERS[delta.speaker],
            kind=_DELTA_KIND_NUMBERS[delta.kind],
            offset=delta.offset,
            text=delta.text,
        )
    )


def delta_said_elsewhere(proto: event_pb2.TextDelta) -> TextDelta | None:
    """What another replica said; None where it is of another version and says what is not known here."""
    speaker, kind = _SPEAKERS.get(proto.speaker), _DELTA_KINDS.get(proto.kind)
    if speaker is None or kind is None:
        return None
    place = proto.turn, proto.round, proto.attempt
    return TextDelta(*place, speaker, kind, proto.offset, proto.text, elsewhere=True)
