"""Rows about to be appended, as the columns of `messages` take them, and the messages that they become."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import NamedTuple, assert_never

from agent_service.domain import Message, NewMessage, Place, SessionId, Text, ToolCall, ToolResponse, storable

# The columns of `arrays`, in their order, for `unnest`.
COLUMNS = "message_id, type, source, text, reasoning, call_id, tool_name, is_error, wait_seconds"


def arrays(rows: Sequence[NewMessage]) -> tuple[Sequence[object], ...]:
    """A list for each of the columns."""
    contents = [_columns(row.content) for row in rows]
    return (
        [row.message_id for row in rows],
        [row.type.value for row in rows],
        [row.source for row in rows],
        [columns.text for columns in contents],
        [row.reasoning for row in rows],
        [columns.call_id for columns in contents],
        [columns.tool_name for columns in contents],
        [columns.is_error for columns in contents],
        [row.wait_seconds for row in rows],
    )


def cleaned(row: NewMessage) -> NewMessage:
    """The row without what PostgreSQL cannot hold: what is shown to the model is what is stored."""
    content: Text | ToolCall | ToolResponse
    match row.content:
        case Text(text):
            content = Text(storable(text))
        case ToolCall(call_id, name, arguments_json):
            content = ToolCall(storable(call_id), storable(name), storable(arguments_json))
        case ToolResponse(call_id, name, text, is_error):
            content = ToolResponse(storable(call_id), storable(name), storable(text), is_error)
        case unreachable:
            assert_never(unreachable)
    return replace(row, content=content, reasoning=storable(row.reasoning))


def placed(row: NewMessage, session_id: SessionId, position: int, place: Place, now: datetime) -> Message:
    """The message that the row has become."""
    return Message(
        row.message_id,
        session_id,
        position,
        row.type,
        row.content,
        place.turn,
        place.round,
        now,
        row.source,
        row.reasoning,
        deadline=None if row.wait_seconds is None else now + timedelta(seconds=row.wait_seconds),
    )


class _Columns(NamedTuple):
    text: str
    call_id: str | None = None
    tool_name: str | None = None
    is_error: bool = False


def _columns(content: Text | ToolCall | ToolResponse) -> _Columns:
    match content:
        case Text(text):
            return _Columns(text)
        case ToolCall(call_id, name, arguments_json):
            return _Columns(arguments_json, call_id, name)
        case ToolResponse(call_id, name, text, is_error):
            return _Columns(text, call_id, name, is_error)
        case unreachable:
            assert_never(unreachable)
