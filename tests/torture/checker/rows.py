"""The rows of the database, as far as they are read, and what an agent service lists at the end."""

from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from tests.torture.checker.records import Json, Moment

REPLIES = ("assistant", "tool_call")


@dataclass(frozen=True, slots=True)
class Config:
    model: str
    inner_voice_model: str
    disable_inner_voice: bool
    mode: str


@dataclass(frozen=True, slots=True)
class Profile:
    placement: str
    system_role: bool = True


@dataclass(frozen=True, slots=True)
class SessionRow:
    session_id: str
    display_name: str
    state: str
    config: Config
    revision: int
    next_position: int
    outstanding: int
    turn: int
    turn_open: bool
    lease_owner: str | None
    lease_epoch: int
    frame_tag: str
    profile: Profile | None = None


@dataclass(frozen=True, slots=True)
class MessageRow:
    session_id: str
    message_id: str
    type: str
    source: str
    position: int | None
    covers_through_position: int
    turn: int
    round: int
    text: str
    reasoning: str
    call_id: str | None
    tool_name: str | None
    # Of a call by which the agent waits.
    deadline: Moment | None
    notification_type: str | None
    subject: str | None
    data_json: str | None
    delivery: str | None
    coalesce_key: str | None
    expire_time: Moment | None
    request_id: str | None
    posted_at: Moment
    posted_revision: int
    delivered_at: Moment | None
    delivered_revision: int | None
    seen_at: Moment | None
    seen_revision: int | None
    settled_at: Moment | None
    settled_revision: int | None
    settled_as: str | None
    placement: str | None = None
    shown_bytes: int | None = None
    left_waiting: int | None = None

    @property
    def place(self) -> int:
        """Its position, or 0."""
        return self.position or 0

    @property
    def appended_revision(self) -> int:
        return (self.delivered_revision or 0) if self.type == "system" else self.posted_revision

    @property
    def appended_at(self) -> float:
        return (self.delivered_at or 0) if self.type == "system" else self.posted_at

    @property
    def key(self) -> tuple[str, str]:
        """What makes a post the same as another of its session."""
        return self.source, self.request_id or ""

    def __str__(self) -> str:
        return f"{self.type} {self.message_id} at {self.position}"


@dataclass(frozen=True, slots=True)
class EventData:
    """Of any event: what it has of these."""

    turn: int = 0
    round: int = 0
    attempt: int = 0
    state: str = ""
    reason: str = ""
    retry_time: Moment | None = None
    config: Config | None = None
    handled_interrupts: int = 0


@dataclass(frozen=True, slots=True)
class EventRow:
    session_id: str
    revision: int
    create_time: Moment
    type: str
    message_id: str | None
    data: EventData | None

    @property
    def told(self) -> EventData:
        return self.data or EventData()

    def __str__(self) -> str:
        return f"{self.type} of revision {self.revision}"


@dataclass(frozen=True, slots=True)
class Listed:
    """A page of any listing: what it has of these."""

    events: tuple[Json, ...] = ()
    messages: tuple[Json, ...] = ()
    interrupts: tuple[Json, ...] = ()


# ---- database.jsonl


@dataclass(frozen=True, slots=True)
class SessionLine:
    table: Literal["sessions"]
    row: SessionRow


@dataclass(frozen=True, slots=True)
class MessageLine:
    table: Literal["messages"]
    row: MessageRow


@dataclass(frozen=True, slots=True)
class EventLine:
    table: Literal["events"]
    row: EventRow


@dataclass(frozen=True, slots=True)
class OtherLine:
    table: Literal["replicas", "model_profiles"]


@dataclass(frozen=True, slots=True)
class ListLine:
    list: Literal["ListMessages", "ListInterrupts", "StreamTranscript"]
    session_id: str
    answers: tuple[Listed, ...]


Row: TypeAlias = (
    Annotated[SessionLine | MessageLine | EventLine | OtherLine, Field(discriminator="table")] | ListLine
)
