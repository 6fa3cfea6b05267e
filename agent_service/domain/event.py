"""The facts about a session in their order, and text as it streams."""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import TypeAlias

from agent_service.domain.interrupt import Interrupt
from agent_service.domain.session import Session
from agent_service.domain.transcript import Message


class EventType(Enum):
    SESSION_CHANGED = "session_changed"
    TURN_STARTED = "turn_started"
    ROUND_STARTED = "round_started"
    MESSAGE_APPENDED = "message_appended"
    TOOL_CALL_STARTED = "tool_call_started"
    INTERRUPT_POSTED = "interrupt_posted"
    INTERRUPT_DELIVERED = "interrupt_delivered"
    INTERRUPT_SEEN = "interrupt_seen"
    INTERRUPT_SETTLED = "interrupt_settled"
    ROUND_FAILED = "round_failed"
    COMPACTED = "compacted"
    TURN_ENDED = "turn_ended"


class RoundFailure(Enum):
    """Why a model request came to nothing."""

    INTERRUPTED = "interrupted"
    MODEL_UNAVAILABLE = "model_unavailable"
    MODEL_REFUSED = "model_refused"
    CONTEXT_OVERFLOW = "context_overflow"
    BAD_REPLY = "bad_reply"
    INTERNAL = "internal"


class TurnEnd(Enum):
    ANSWERED = "answered"
    SESSION_ENDED = "session_ended"


@dataclass(frozen=True, slots=True)
class SessionChanged:
    session: Session


@dataclass(frozen=True, slots=True)
class TurnStarted:
    turn: int


@dataclass(frozen=True, slots=True)
class RoundStarted:
    turn: int
    round: int
    attempt: int


@dataclass(frozen=True, slots=True)
class MessageAppended:
    message: Message


@dataclass(frozen=True, slots=True)
class ToolCallStarted:
    turn: int
    round: int
    call_id: str
    name: str


@dataclass(frozen=True, slots=True)
class InterruptChanged:
    """Posted, delivered, seen or settled, by the event's type; the interrupt as of the event."""

    type: EventType
    interrupt: Interrupt


@dataclass(frozen=True, slots=True)
class RoundFailed:
    turn: int
    round: int
    attempt: int
    reason: RoundFailure
    detail: str
    retry_time: datetime | None


@dataclass(frozen=True, slots=True)
class Compacted:
    """Older rows gave way to a summary, which lists so many interrupts as handled. `cut`: no model wrote
    it."""

    summary: Message
    handled_interrupts: int
    cut: bool


@dataclass(frozen=True, slots=True)
class TurnEnded:
    turn: int
    reason: TurnEnd


Happening: TypeAlias = (
    SessionChanged
    | TurnStarted
    | RoundStarted
    | MessageAppended
    | ToolCallStarted
    | InterruptChanged
    | RoundFailed
    | Compacted
    | TurnEnded
)


@dataclass(frozen=True, slots=True)
class Event:
    """A fact about a session, as it was at its own revision."""

    revision: int
    create_time: datetime
    happening: Happening


class Speaker(Enum):
    INNER_VOICE = "inner_voice"
    ASSISTANT = "assistant"


class DeltaKind(Enum):
    TEXT = "text"
    REASONING = "reasoning"
    TOOL_NAME = "tool_name"
    TOOL_PROGRESS = "tool_progress"


@dataclass(frozen=True, slots=True)
class TextDelta:
    """A piece of what a model is writing, or how far a tool has come; `offset` as in the contract.
    `elsewhere`: another replica said it."""

    turn: int
    round: int
    attempt: int
    speaker: Speaker
    kind: DeltaKind
    offset: int
    text: str
    elsewhere: bool = False
