"""What is there to be judged in the end: the rows of the database, and what was seen on the way."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from enum import Enum
from uuid import UUID

from agent_service.domain import JsonObject
from agent_service.loop.refusal import SHORTENED
from agent_service.model import Request
from agent_service.store.database import Hot
from tests.loop.schedules.plan import Schedule


@dataclass(frozen=True)
class SessionRow:
    state: str
    revision: int
    next_position: int
    outstanding: int
    turn_open: bool
    interrupted: bool
    lease_owner: UUID | None
    attempts: int
    frame_tag: str


@dataclass(frozen=True)
class MessageRow:
    message_id: UUID
    type: str
    source: str
    position: int | None
    covers_through_position: int
    turn: int
    round: int
    text: str
    call_id: str | None
    delivery: str | None
    coalesce_key: str | None
    posted_revision: int
    delivered_revision: int | None
    seen_revision: int | None
    settled_revision: int | None
    settled_as: str | None
    left_waiting: int | None
    shown_bytes: int | None

    @property
    def place(self) -> int:
        """Its position, or 0."""
        return self.position or 0

    @property
    def appended_revision(self) -> int:
        """Of the event by which it became part of the transcript."""
        return (self.delivered_revision or 0) if self.type == "system" else self.posted_revision

    def __str__(self) -> str:
        return f"{self.type} {self.text[:8]!r} at {self.position}"


@dataclass(frozen=True)
class EventRow:
    revision: int
    create_time: datetime
    type: str
    message_id: UUID | None
    data: Mapping[str, object] | None

    @property
    def shortens(self) -> bool:
        """Whether what no model has seen is shown shorter from then on."""
        return self.type == "round_failed" and SHORTENED in str(self.data)


class Asker(Enum):
    AGENT = "agent"
    VOICE = "inner voice"
    SUMMARY = "summary"


@dataclass
class Asked:
    """A request of a model, and where the session was when it came."""

    by: Asker
    request: Request
    revision: int
    next_position: int
    # The first chunk of the reply was handed over.
    begun: bool = False
    # It was too long, and not for a summary.
    refused: bool = False
    # Whoever asked may not have been able to write anything more.
    cut: bool = False

    @property
    def messages(self) -> Sequence[JsonObject]:
        return self.request.messages

    def __str__(self) -> str:
        return f"the {self.by.value}'s request at revision {self.revision}"


@dataclass(frozen=True)
class Claimed:
    from_dead: bool
    epoch: int
    attempts_before: int
    attempts: int


@dataclass
class Witness:
    """What was seen while the schedule was played."""

    asked: list[Asked] = field(default_factory=list)
    # The words of every acknowledged post, by the id that it was given.
    acknowledged: dict[UUID, str] = field(default_factory=dict)
    # What somebody was about to withdraw, and whose expire time came.
    withdrawn: set[UUID] = field(default_factory=set)
    expired: set[UUID] = field(default_factory=set)
    claims: list[Claimed] = field(default_factory=list)
    # From which revision to which one a worker went on that had lost the session.
    lost: list[tuple[int, int]] = field(default_factory=list)
    # The column `outstanding`, and what it counts.
    counts: list[tuple[int, int]] = field(default_factory=list)
    # What else is wrong, by invariant.
    complaints: list[tuple[int, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Evidence:
    session: SessionRow
    # In the order of their deposit or appending.
    messages: Sequence[MessageRow]
    events: Sequence[EventRow]
    witness: Witness
    schedule: Schedule

    @property
    def transcript(self) -> list[MessageRow]:
        return sorted((row for row in self.messages if row.position), key=lambda row: row.place)

    @property
    def interrupts(self) -> list[MessageRow]:
        return [row for row in self.messages if row.type == "system"]

    def of_type(self, kind: str) -> list[EventRow]:
        return [event for event in self.events if event.type == kind]


async def read_session(connection: Hot, session_id: UUID) -> SessionRow:
    row = await connection.fetchrow(
        f"SELECT {_columns(SessionRow)} FROM sessions WHERE session_id = $1", session_id
    )
    assert row
    return SessionRow(**row)


async def gather(connection: Hot, session_id: UUID, witness: Witness, schedule: Schedule) -> Evidence:
    messages = await connection.fetch(
        f"SELECT {_columns(MessageRow)} FROM messages WHERE session_id = $1 ORDER BY posted_revision",
        session_id,
    )
    events = await connection.fetch(
        f"SELECT {_columns(EventRow)} FROM events WHERE session_id = $1 ORDER BY revision", session_id
    )
    return Evidence(
        await read_session(connection, session_id),
        [MessageRow(**row) for row in messages],
        [EventRow(**row) for row in events],
        witness,
        schedule,
    )


def _columns(kind: type) -> str:
    return ", ".join(column.name for column in fields(kind))
