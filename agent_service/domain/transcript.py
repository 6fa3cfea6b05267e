"""The rows that make a transcript."""

import json
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Never, TypeAlias

from agent_service.domain.ids import JsonObject, MessageId, SessionId, new_id
from agent_service.domain.interrupt import Interrupt

INNER_VOICE_SOURCE = "inner_voice"


class MessageType(Enum):
    USER = "user"
    ASSISTANT = "assistant"
    TOOL_CALL = "tool_call"
    TOOL_RESPONSE = "tool_response"
    SYSTEM = "system"
    SUMMARY = "summary"


@dataclass(frozen=True, slots=True)
class Text:
    """The words of a user, assistant or summary row."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCall:
    call_id: str
    name: str
    arguments_json: str

    def arguments(self) -> JsonObject:
        """What the model wrote as arguments. Raises ValueError where that is no JSON object."""
        try:
            arguments = json.loads(self.arguments_json, parse_constant=_refuse)
        except json.JSONDecodeError as error:
            raise ValueError(f"The arguments are not JSON: {error.msg} at character {error.pos}") from None
        except (ValueError, RecursionError):
            raise ValueError("The arguments are not JSON that can be read") from None
        if not isinstance(arguments, dict):
            raise ValueError("The arguments are not a JSON object.")
        return arguments


def _refuse(constant: str) -> Never:
    """JSON has no NaN and no Infinity, though Python reads them."""
    raise ValueError(f"{constant} is no number")


@dataclass(frozen=True, slots=True)
class ToolResponse:
    call_id: str
    name: str
    content: str
    is_error: bool = False


Content: TypeAlias = Text | ToolCall | ToolResponse | Interrupt


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A row about to be appended; its place is found when it is written. A call that lets the agent wait has
    its deadline so long after that."""

    type: MessageType
    content: Text | ToolCall | ToolResponse
    source: str = ""
    reasoning: str = ""
    wait_seconds: float | None = None
    message_id: MessageId = field(default_factory=lambda: MessageId(new_id()))


@dataclass(frozen=True, slots=True)
class Place:
    """Where a turn stands. Round 0 is its start, when the inner voice speaks; attempts count from 1."""

    turn: int
    round: int
    attempt: int


@dataclass(frozen=True, slots=True)
class Message:
    message_id: MessageId
    session_id: SessionId
    position: int
    type: MessageType
    content: Content
    turn: int
    round: int
    create_time: datetime
    source: str = ""
    reasoning: str = ""
    covers_through_position: int = 0
    # Until when a call lets the agent wait.
    deadline: datetime | None = None

    @classmethod
    def of(cls, delivered: Interrupt) -> "Message":
        """The row of an interrupt that has its place."""
        return cls(
            delivered.interrupt_id,
            delivered.session_id,
            delivered.position,
            MessageType.SYSTEM,
            delivered,
            delivered.turn,
            delivered.round,
            delivered.posted.time,
            delivered.source,
        )
