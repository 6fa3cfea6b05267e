"""Rows of the database to domain objects and back. No I/O."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Protocol, TypeVar, assert_never, overload
from uuid import UUID

from agent_service.domain import (
    Activity,
    Compacted,
    Content,
    Delivery,
    Event,
    EventType,
    Fact,
    Happening,
    Interrupt,
    InterruptChanged,
    InterruptState,
    JsonObject,
    Message,
    MessageAppended,
    MessageId,
    MessageType,
    Notification,
    Nudge,
    Placement,
    Profile,
    RoundFailed,
    RoundFailure,
    RoundStarted,
    Session,
    SessionChanged,
    SessionConfig,
    SessionId,
    SessionMode,
    SessionReading,
    SessionState,
    Settlement,
    Terms,
    Text,
    ToolCall,
    ToolCallStarted,
    ToolResponse,
    TurnEnd,
    TurnEnded,
    TurnStarted,
    Usage,
)

T = TypeVar("T")


class Row(Protocol):
    """A record of the driver. Columns are read with the type that the schema gives them."""

    def __getitem__(self, name: str) -> object: ...


@overload
def get(row: Row, name: str, kind: type[T]) -> T: ...
@overload
def get(row: Row, name: str, kind: type[T], null: None) -> T | None: ...
def get(row: Row, name: str, kind: type[T], null: object = ...) -> T | None:
    """A column's value, of the kind that is expected there."""
    value = row[name]
    if value is None and null is None:
        return None
    assert isinstance(value, kind), f"{name} is {type(value).__name__}, not {kind.__name__}"
    return value


# ---- sessions

SESSION_COLUMNS = (
    "session_id, display_name, goal, state, state_reason, config, labels, revision, turn, create_time"
)
READING_COLUMNS = (
    f"{SESSION_COLUMNS}, outstanding, due_at, turn_open, not_before, lease_owner, "
    "input_tokens, cached_input_tokens, output_tokens, model_requests"
)


# What the newest turn runs with, beside `profile`.
TERMS_COLUMNS = """coalesce(turn_goal, goal) AS turn_goal, coalesce(turn_config, config) AS turn_config,
    turn_open AND turn_config IS NULL AS terms_outdated,
    system_prompt, tool_specs, notes, announced, voice_profile"""


def session(row: Row) -> Session:
    return Session(
        SessionId(get(row, "session_id", UUID)),
        get(row, "display_name", str),
        get(row, "goal", str),
        SessionState(row["state"]),
        get(row, "state_reason", str),
        config(get(row, "config", dict)),
        get(row, "labels", dict),
        get(row, "revision", int),
        get(row, "turn", int),
        get(row, "create_time", datetime),
    )


def terms(row: Row) -> Terms | None:
    """The columns of the terms; None before the first turn."""
    prompt, announced = get(row, "system_prompt", str, None), get(row, "announced", str, None)
    if prompt is None:
        return None
    return Terms(
        get(row, "turn_goal", str),
        config(get(row, "turn_config", dict)),
        prompt,
        get(row, "tool_specs", str),
        tuple(get(row, "notes", list)),
        Placement(announced) if announced else None,
        profile(row, "profile"),
        profile(row, "voice_profile"),
    )


def terms_values(terms: Terms) -> tuple[object, ...]:
    """For turn_goal, turn_config, system_prompt, tool_specs, notes, announced, profile and voice_profile."""
    return (
        terms.goal,
        config_fields(terms.config),
        terms.system_prompt,
        terms.tool_specs_json,
        terms.notes,
        terms.announced.value if terms.announced else None,
        profile_fields(terms.profile),
        profile_fields(terms.voice_profile),
    )


def profile(row: Row, name: str) -> Profile | None:
    """The profile in a column."""
    stored = get(row, name, dict, None)
    if not stored:
        return None
    # Which those of an earlier release do not say.
    calls_alone = bool(stored.get("calls_alone"))
    return Profile(Placement(stored["placement"]), get(stored, "system_role", bool), calls_alone)


def profile_fields(profile: Profile | None) -> JsonObject | None:
    if profile is None:
        return None
    return {**asdict(profile), "placement": profile.placement.value}


def reading(row: Row) -> SessionReading:
    """The columns of a reading, and `read_at`, the time at which they were read."""
    return SessionReading(
        session(row),
        _activity(row),
        get(row, "outstanding", int),
        _next_turn_time(row),
        Usage(
            get(row, "input_tokens", int),
            get(row, "cached_input_tokens", int),
            get(row, "output_tokens", int),
            get(row, "model_requests", int),
        ),
    )


def _next_turn_time(row: Row) -> datetime | None:
    """When work goes on by itself: when it is due, and not before a back-off is over."""
    due_at = get(row, "due_at", datetime, None)
    if due_at is None or row["state"] != "active" or row["lease_owner"]:
        return None
    return max(due_at, get(row, "not_before", datetime, None) or due_at)


def _activity(row: Row) -> Activity:
    read_at = get(row, "read_at", datetime)
    due_at = get(row, "due_at", datetime, None)
    not_before = get(row, "not_before", datetime, None)
    if row["state"] != "active":
        return Activity.STOPPED
    if row["lease_owner"]:
        return Activity.RUNNING
    if not_before and not_before > read_at:
        return Activity.BACKING_OFF
    if get(row, "outstanding", int) or (due_at and due_at <= read_at):
        return Activity.QUEUED
    return Activity.WAITING if row["turn_open"] else Activity.IDLE


def config_fields(config: SessionConfig) -> JsonObject:
    return {
        "model": config.model,
        "inner_voice_model": config.inner_voice_model,
        "tools": config.tools,
        "inner_voice_prompt": config.inner_voice_prompt,
        "disable_inner_voice": config.disable_inner_voice,
        "mode": config.mode.value,
        "cooldown_microseconds": config.cooldown // timedelta(microseconds=1),
        "max_rounds_per_turn": config.max_rounds_per_turn,
        "max_turns": config.max_turns,
        "token_budget": config.token_budget,
    }


def config(stored: Mapping[str, object]) -> SessionConfig:
    tools = stored["tools"]
    assert isinstance(tools, list)
    return SessionConfig(
        get(stored, "model", str),
        get(stored, "inner_voice_model", str),
        tuple(tools),
        get(stored, "inner_voice_prompt", str),
        get(stored, "disable_inner_voice", bool),
        SessionMode(stored["mode"]),
        timedelta(microseconds=get(stored, "cooldown_microseconds", int)),
        get(stored, "max_rounds_per_turn", int),
        get(stored, "max_turns", int),
        get(stored, "token_budget", int),
    )


def session_fields(session: Session) -> JsonObject:
    """What a session_changed event keeps: the session's facts as of the event."""
    return {
        "display_name": session.display_name,
        "goal": session.goal,
        "state": session.state.value,
        "state_reason": session.state_reason,
        "config": config_fields(session.config),
        "labels": dict(session.labels),
        "turn": session.turn,
        "create_time": session.create_time.isoformat(),
    }


# ---- messages

MESSAGE_COLUMNS = """session_id, message_id, type, source, principal, position, covers_through_position,
    turn, round, text, reasoning, call_id, tool_name, is_error, notification_type, subject, data_json,
    delivery, coalesce_key, expire_time, posted_at, posted_revision, delivered_at, delivered_revision,
    seen_at, seen_revision, settled_at, settled_revision, settled_as, settle_reason,
    placement, render_version, shown_bytes, left_waiting, deadline"""


def message(row: Row) -> Message:
    """A row that has a position."""
    return Message(
        MessageId(get(row, "message_id", UUID)),
        SessionId(get(row, "session_id", UUID)),
        get(row, "position", int),
        MessageType(row["type"]),
        _content(row),
        get(row, "turn", int),
        get(row, "round", int),
        get(row, "posted_at", datetime),
        get(row, "source", str),
        get(row, "reasoning", str),
        get(row, "covers_through_position", int),
        get(row, "deadline", datetime, None),
    )


def _content(row: Row) -> Content:
    text = get(row, "text", str)
    match MessageType(row["type"]):
        case MessageType.USER | MessageType.ASSISTANT | MessageType.SUMMARY:
            return Text(text)
        case MessageType.TOOL_CALL:
            return ToolCall(get(row, "call_id", str), get(row, "tool_name", str), text)
        case MessageType.TOOL_RESPONSE:
            return ToolResponse(
                get(row, "call_id", str), get(row, "tool_name", str), text, get(row, "is_error", bool)
            )
        case MessageType.SYSTEM:
            return interrupt(row)
        case unreachable:
            assert_never(unreachable)


def interrupt(row: Row) -> Interrupt:
    settled = _fact(row, "settled")
    return Interrupt(
        MessageId(get(row, "message_id", UUID)),
        SessionId(get(row, "session_id", UUID)),
        get(row, "source", str),
        get(row, "principal", str),
        _body(row),
        Delivery(row["delivery"]),
        get(row, "coalesce_key", str, None) or "",
        get(row, "expire_time", datetime, None),
        Fact(get(row, "posted_at", datetime), get(row, "posted_revision", int)),
        _fact(row, "delivered"),
        _fact(row, "seen"),
        Settlement(settled, InterruptState(row["settled_as"]), get(row, "settle_reason", str))
        if settled
        else None,
        get(row, "position", int, None) or 0,
        get(row, "turn", int),
        get(row, "round", int),
        Placement(row["placement"] or Placement.SYSTEM.value),
        get(row, "render_version", int, None) or 0,
        get(row, "shown_bytes", int, None) or 0,
        get(row, "left_waiting", int, None) or 0,
    )


def _body(row: Row) -> Nudge | Notification:
    text = get(row, "text", str)
    kind = get(row, "notification_type", str, None)
    if kind is None:
        return Nudge(text)
    return Notification(kind, get(row, "subject", str), text, get(row, "data_json", str))


def _fact(row: Row, name: str) -> Fact | None:
    time = get(row, f"{name}_at", datetime, None)
    return Fact(time, get(row, f"{name}_revision", int)) if time else None


# ---- events


def event(row: Row) -> Event:
    """An event joined with its message; the event's columns are named event_*."""
    revision, time = get(row, "event_revision", int), get(row, "event_time", datetime)
    data: JsonObject = get(row, "event_data", dict, None) or {}
    return Event(revision, time, _happening(row, EventType(row["event_type"]), revision, data))


def _happening(row: Row, kind: EventType, revision: int, data: JsonObject) -> Happening:
    match kind:
        case EventType.SESSION_CHANGED:
            return SessionChanged(_session_then(row, revision, data))
        case EventType.TURN_STARTED:
            return TurnStarted(get(data, "turn", int))
        case EventType.ROUND_STARTED:
            return RoundStarted(get(data, "turn", int), get(data, "round", int), get(data, "attempt", int))
        case EventType.MESSAGE_APPENDED:
            return MessageAppended(message(row))
        case EventType.TOOL_CALL_STARTED:
            return ToolCallStarted(
                get(data, "turn", int),
                get(data, "round", int),
                get(data, "call_id", str),
                get(data, "name", str),
            )
        case (
            EventType.INTERRUPT_POSTED
            | EventType.INTERRUPT_DELIVERED
            | EventType.INTERRUPT_SEEN
            | EventType.INTERRUPT_SETTLED
        ):
            return InterruptChanged(kind, interrupt(row).as_of(revision))
        case EventType.ROUND_FAILED:
            retry = get(data, "retry_time", str, None)
            return RoundFailed(
                get(data, "turn", int),
                get(data, "round", int),
                get(data, "attempt", int),
                RoundFailure(data["reason"]),
                get(data, "detail", str),
                datetime.fromisoformat(retry) if retry else None,
            )
        case EventType.COMPACTED:
            return Compacted(message(row), get(data, "handled_interrupts", int), get(data, "cut", bool))
        case EventType.TURN_ENDED:
            return TurnEnded(get(data, "turn", int), TurnEnd(data["reason"]))
        case unreachable:
            assert_never(unreachable)


def _session_then(row: Row, revision: int, data: JsonObject) -> Session:
    return Session(
        SessionId(get(row, "event_session_id", UUID)),
        get(data, "display_name", str),
        get(data, "goal", str),
        SessionState(data["state"]),
        get(data, "state_reason", str),
        config(get(data, "config", dict)),
        get(data, "labels", dict),
        revision,
        get(data, "turn", int),
        datetime.fromisoformat(get(data, "create_time", str)),
    )
