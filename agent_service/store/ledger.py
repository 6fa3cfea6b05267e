"""The facts of one transaction about sessions whose rows it has locked.

A ledger gives out the revisions of a session in order and keeps the events until they are written, all of a
transaction in one statement.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from agent_service.domain import (
    EventType,
    Fact,
    InterruptState,
    JsonObject,
    Message,
    MessageId,
    NewMessage,
    Place,
    SessionId,
    Settlement,
)
from agent_service.store.database import Hot
from agent_service.store.new_rows import COLUMNS, arrays, cleaned, placed
from agent_service.store.rows import Row, get

# Takes $1 to $6, which `event_columns` gives.
RECORD = """
INSERT INTO events (session_id, revision, create_time, type, message_id, data)
SELECT r.*
FROM unnest($1::uuid[], $2::bigint[], $3::timestamptz[], $4::text[], $5::uuid[], $6::jsonb[]) AS r"""

_SETTLE = """
UPDATE messages m
SET settled_at = s.at, settled_revision = s.revision, settled_as = s.settled_as, settle_reason = s.reason
FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::bigint[], $5::text[], $6::text[])
     AS s (session_id, message_id, at, revision, settled_as, reason)
WHERE m.session_id = s.session_id AND m.message_id = s.message_id"""


_APPEND = f"""
INSERT INTO messages (session_id, message_id, type, source, position, turn, round, text, reasoning, call_id,
                      tool_name, is_error, deadline, posted_at, posted_revision)
SELECT session_id, message_id, type, source, position, turn, round, text, reasoning, call_id, tool_name,
       is_error, posted_at + wait_seconds * interval '1 second', posted_at, revision
FROM unnest($1::uuid[], $2::bigint[], $3::int[], $4::int[], $5::timestamptz[], $6::bigint[], $7::uuid[],
            $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::bool[],
            $15::float8[])
     AS r (session_id, position, turn, round, posted_at, revision, {COLUMNS})"""

_CLOSE = f"""
WITH recorded AS ({RECORD})
UPDATE sessions s SET revision = a.revision, outstanding = a.outstanding
FROM unnest($7::uuid[], $8::bigint[], $9::int[]) AS a (session_id, revision, outstanding)
WHERE s.session_id = a.session_id"""


@dataclass(frozen=True, slots=True)
class _Event:
    fact: Fact
    type: EventType
    message_id: MessageId | None
    data: JsonObject | None


@dataclass(frozen=True, slots=True)
class _Appended:
    row: NewMessage
    message: Message
    revision: int


@dataclass(slots=True)
class Ledger:
    """What happens to one session in this transaction. `outstanding` follows the column of that name."""

    session_id: SessionId
    now: datetime
    revision: int
    outstanding: int
    events: list[_Event] = field(default_factory=list)
    settled: list[tuple[MessageId, Settlement]] = field(default_factory=list)
    appended: list[_Appended] = field(default_factory=list)

    @property
    def has_rows(self) -> bool:
        """Whether there is more to write than events."""
        return bool(self.settled or self.appended)

    def record(
        self, kind: EventType, message_id: MessageId | None = None, data: JsonObject | None = None
    ) -> Fact:
        """Let something become true."""
        self.revision += 1
        fact = Fact(self.now, self.revision)
        self.events.append(_Event(fact, kind, message_id, data))
        return fact

    def append(self, row: NewMessage, position: int, place: Place) -> Message:
        """Let a row become part of the transcript."""
        fact = self.record(EventType.MESSAGE_APPENDED, row.message_id)
        row = cleaned(row)
        message = placed(row, self.session_id, position, place, fact.time)
        self.appended.append(_Appended(row, message, fact.revision))
        return message

    def settle(self, interrupt_id: MessageId, state: InterruptState, reason: str) -> Settlement:
        """Let an outstanding interrupt become final without being seen."""
        fact = self.record(EventType.INTERRUPT_SETTLED, interrupt_id)
        settlement = Settlement(fact, state, reason)
        self.settled.append((interrupt_id, settlement))
        self.outstanding -= 1
        return settlement

    def expire(self, interrupt_id: MessageId) -> Settlement:
        """Settle a pending interrupt whose expire time has come."""
        return self.settle(interrupt_id, InterruptState.EXPIRED, "not delivered before its expire time")


def opened(row: Row) -> Ledger:
    """The ledger of a session whose row is locked, from its id, revision and `outstanding`, and `now`."""
    return Ledger(
        SessionId(get(row, "session_id", UUID)),
        get(row, "now", datetime),
        get(row, "revision", int),
        get(row, "outstanding", int),
    )


async def close(connection: Hot, ledgers: Sequence[Ledger]) -> None:
    """Write what the ledgers kept, and how far the sessions have come."""
    await write_rows(connection, ledgers)
    await connection.execute(
        _CLOSE,
        *event_columns(ledgers),
        [ledger.session_id for ledger in ledgers],
        [ledger.revision for ledger in ledgers],
        [ledger.outstanding for ledger in ledgers],
    )


async def write(connection: Hot, ledgers: Sequence[Ledger]) -> None:
    """Write what the ledgers kept. The session rows are the caller's to update."""
    await write_rows(connection, ledgers)
    await connection.execute(RECORD, *event_columns(ledgers))


async def write_rows(connection: Hot, ledgers: Sequence[Ledger]) -> None:
    """Write what the ledgers kept, but the events, which the caller records with the session rows."""
    if settled := [(ledger.session_id, *entry) for ledger in ledgers for entry in ledger.settled]:
        await connection.execute(
            _SETTLE,
            [session_id for session_id, _, _ in settled],
            [message_id for _, message_id, _ in settled],
            [settlement.fact.time for _, _, settlement in settled],
            [settlement.fact.revision for _, _, settlement in settled],
            [settlement.state.value for _, _, settlement in settled],
            [settlement.reason for _, _, settlement in settled],
        )
    if appended := [entry for ledger in ledgers for entry in ledger.appended]:
        messages = [entry.message for entry in appended]
        await connection.execute(
            _APPEND,
            [message.session_id for message in messages],
            [message.position for message in messages],
            [message.turn for message in messages],
            [message.round for message in messages],
            [message.create_time for message in messages],
            [entry.revision for entry in appended],
            *arrays([entry.row for entry in appended]),
        )


def event_columns(ledgers: Sequence[Ledger]) -> Sequence[Sequence[object]]:
    """The values of the statement RECORD."""
    events = [(ledger.session_id, event) for ledger in ledgers for event in ledger.events]
    return (
        [session_id for session_id, _ in events],
        [event.fact.revision for _, event in events],
        [event.fact.time for _, event in events],
        [event.type.value for _, event in events],
        [event.message_id for _, event in events],
        [event.data for _, event in events],
    )
