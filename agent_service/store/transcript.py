"""Reading a transcript, and the holder's statements that only append to it.

Each is one statement, which compares the lease's epoch and allocates revisions and positions. It raises
LeaseLost where the session is no longer the holder's, and Unavailable where nobody knows whether it happened:
the holder then forgets the session and never repeats the write.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import NamedTuple, assert_never

from agent_service.domain import (
    Lease,
    Message,
    MessageId,
    NewMessage,
    Place,
    RoundFailure,
    Session,
    Text,
    ToolCall,
    ToolResponse,
    TurnEnd,
    Usage,
)
from agent_service.errors import LeaseLost
from agent_service.store.database import Database
from agent_service.store.rows import MESSAGE_COLUMNS, SESSION_COLUMNS, Row, get, message, session
from agent_service.wakeups import Wakeups

_LOAD_SESSION = f"""
SELECT {SESSION_COLUMNS}, system_prompt, tool_specs, frame_tag, turn_open, round, attempt, next_position
FROM sessions WHERE session_id = $1 AND lease_epoch = $2"""

# The newest summary stands for everything up to the position it names, and is read before what follows.
_LOAD_ROWS = f"""
WITH newest AS (
    SELECT coalesce(max(covers_through_position), 0) AS covered FROM messages
    WHERE session_id = $1 AND type = 'summary')
SELECT {MESSAGE_COLUMNS} FROM messages, newest
WHERE session_id = $1 AND position > covered AND (type <> 'summary' OR covers_through_position = covered)
ORDER BY type <> 'summary', position"""

# Takes: $1 session, $2 epoch, $3 next position, $4 to $11 the rows, $12 turn, $13 round, $14 to $17 usage.
_APPEND = """
WITH held AS (
    UPDATE sessions
    SET revision = revision + cardinality($4::uuid[]) + {more_events},
        next_position = next_position + cardinality($4::uuid[]),
        input_tokens = input_tokens + $14, cached_input_tokens = cached_input_tokens + $15,
        output_tokens = output_tokens + $16, model_requests = model_requests + $17{more_sets}
    WHERE session_id = $1 AND lease_epoch = $2 AND next_position = $3
    RETURNING revision - cardinality($4::uuid[]) - {more_events} AS base, clock_timestamp() AS now
), rows AS (
    SELECT * FROM unnest($4::uuid[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[],
                         $11::bool[])
    WITH ORDINALITY AS r (message_id, type, source, text, reasoning, call_id, tool_name, is_error, n)
), appended AS (
    INSERT INTO messages (session_id, message_id, type, source, position, turn, round, text, reasoning,
                          call_id, tool_name, is_error, posted_at, posted_revision)
    SELECT $1, message_id, type, source, $3 + n - 1, $12, $13, text, reasoning,
           call_id, tool_name, is_error, now, base + n FROM held, rows
), recorded AS (
    INSERT INTO events (session_id, revision, create_time, type, message_id)
    SELECT $1, base + n, now, 'message_appended', message_id FROM held, rows
){more_ctes}
SELECT now FROM held"""

_APPEND_ROWS = _APPEND.format(more_events=0, more_sets="", more_ctes="")

# A reply completes a round: what went wrong before is forgiven.
_APPEND_REPLY = _APPEND.format(more_events=0, more_sets=", attempts = 0", more_ctes="")

_APPEND_ANSWER = _APPEND.format(
    more_events=1,
    more_sets=""", attempts = 0, turn_open = false, lease_owner = NULL, lease_epoch = lease_epoch + 1,
        not_before = NULL,
        due_at = CASE WHEN config->>'mode' = 'autonomous' THEN
            clock_timestamp() + (config->>'cooldown_microseconds')::bigint * interval '1 microsecond' END""",
    more_ctes=""", ended AS (
    INSERT INTO events (session_id, revision, create_time, type, data)
    SELECT $1, base + cardinality($4::uuid[]) + 1, now, 'turn_ended',
           jsonb_build_object('turn', $12::int, 'reason', $18::text) FROM held
)""",
)

_SEE = """
WITH held AS (
    UPDATE sessions
    SET revision = revision + cardinality($3::uuid[]), outstanding = outstanding - cardinality($3::uuid[])
    WHERE session_id = $1 AND lease_epoch = $2
    RETURNING revision - cardinality($3::uuid[]) AS base, clock_timestamp() AS now
), rendered AS (
    SELECT * FROM unnest($3::uuid[]) WITH ORDINALITY AS r (message_id, n)
), seen AS (
    UPDATE messages m SET seen_at = now, seen_revision = base + n FROM held, rendered r
    WHERE m.session_id = $1 AND m.message_id = r.message_id
), recorded AS (
    INSERT INTO events (session_id, revision, create_time, type, message_id)
    SELECT $1, base + n, now, 'interrupt_seen', message_id FROM held, rendered
)
SELECT now FROM held"""

_START_TOOLS = """
WITH held AS (
    UPDATE sessions SET revision = revision + cardinality($3::text[])
    WHERE session_id = $1 AND lease_epoch = $2
    RETURNING revision - cardinality($3::text[]) AS base, clock_timestamp() AS now
), recorded AS (
    INSERT INTO events (session_id, revision, create_time, type, data)
    SELECT $1, base + n, now, 'tool_call_started',
           jsonb_build_object('turn', $5::int, 'round', $6::int, 'call_id', call_id, 'name', name)
    FROM held, unnest($3::text[], $4::text[]) WITH ORDINALITY AS c (call_id, name, n)
)
SELECT now FROM held"""

_FAIL_ROUND = """
WITH held AS (
    UPDATE sessions
    SET revision = revision + 1, lease_owner = NULL, lease_epoch = lease_epoch + 1,
        due_at = CASE WHEN turn_open THEN clock_timestamp() + $3 * interval '1 second' ELSE due_at END,
        not_before = clock_timestamp() + $3 * interval '1 second',
        model_requests = model_requests + 1
    WHERE session_id = $1 AND lease_epoch = $2
    RETURNING revision, not_before, clock_timestamp() AS now
), recorded AS (
    INSERT INTO events (session_id, revision, create_time, type, data)
    SELECT $1, revision, now, 'round_failed', jsonb_build_object(
        'turn', $4::int, 'round', $5::int, 'attempt', $6::int, 'reason', $7::text, 'detail', $8::text,
        'retry_time', not_before) FROM held
)
SELECT now FROM held"""

# A parked turn is due at its deadline, or at any interrupt; every other open one now; a closed one as before.
_RELEASE = """
UPDATE sessions
SET lease_owner = NULL, lease_epoch = lease_epoch + 1,
    due_at = CASE WHEN turn_open THEN coalesce($3, clock_timestamp()) ELSE due_at END
WHERE session_id = $1 AND lease_epoch = $2
RETURNING clock_timestamp() AS now"""

# Not a failure: the session goes on, and what the request has cost is an estimate.
_INTERRUPT_ROUND = """
WITH held AS (
    UPDATE sessions
    SET revision = revision + 1, model_requests = model_requests + 1,
        input_tokens = input_tokens + $6, output_tokens = output_tokens + $7
    WHERE session_id = $1 AND lease_epoch = $2
    RETURNING revision, clock_timestamp() AS now
), recorded AS (
    INSERT INTO events (session_id, revision, create_time, type, data)
    SELECT $1, revision, now, 'round_failed', jsonb_build_object(
        'turn', $3::int, 'round', $4::int, 'attempt', $5::int, 'reason', 'interrupted',
        'detail', 'an interrupt with immediate delivery', 'retry_time', NULL) FROM held
)
SELECT now FROM held"""

_SET_ASIDE = """
UPDATE sessions
SET lease_owner = NULL, lease_epoch = lease_epoch + 1,
    not_before = clock_timestamp() + $3 * interval '1 second'
WHERE session_id = $1 AND lease_epoch = $2
RETURNING clock_timestamp() AS now"""

_UNSTORABLE = dict.fromkeys((0, *range(55296, 57344)), "�")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A session as its new holder finds it. Its place is the newest round begun in the turn."""

    session: Session
    system_prompt: str | None
    tool_specs_json: str | None
    frame_tag: str
    turn_open: bool
    place: Place
    next_position: int
    rows: tuple[Message, ...]


class Transcript:
    def __init__(self, database: Database, wakeups: Wakeups) -> None:
        self._database, self._wakeups = database, wakeups

    async def load(self, lease: Lease) -> Snapshot:
        """Read what the holder needs: the session and the rows that its requests are built from."""
        async with self._database.connection() as connection:
            row = await connection.fetchrow(_LOAD_SESSION, lease.session_id, lease.epoch)
            if row is None:
                raise LeaseLost
            rows = await connection.fetch(_LOAD_ROWS, lease.session_id)
        return Snapshot(
            session(row),
            get(row, "system_prompt", str, None),
            get(row, "tool_specs", str, None),
            get(row, "frame_tag", str),
            get(row, "turn_open", bool),
            Place(get(row, "turn", int), get(row, "round", int), get(row, "attempt", int)),
            get(row, "next_position", int),
            tuple(message(row) for row in rows),
        )

    async def append(
        self, lease: Lease, next_position: int, place: Place, rows: Sequence[NewMessage], usage: Usage
    ) -> tuple[Message, ...]:
        """Append what the inner voice said, or the responses of tools."""
        return await self._append(_APPEND_ROWS, lease, next_position, place, rows, usage)

    async def append_reply(
        self, lease: Lease, next_position: int, place: Place, rows: Sequence[NewMessage], usage: Usage
    ) -> tuple[Message, ...]:
        """Append the model's words and the tool calls it asked for."""
        return await self._append(_APPEND_REPLY, lease, next_position, place, rows, usage)

    async def append_answer(
        self, lease: Lease, next_position: int, place: Place, rows: Sequence[NewMessage], usage: Usage
    ) -> tuple[Message, ...]:
        """Append the model's last words of a turn, end the turn and release the session."""
        ended = TurnEnd.ANSWERED.value
        return await self._append(_APPEND_ANSWER, lease, next_position, place, rows, usage, ended)

    async def _append(
        self,
        statement: str,
        lease: Lease,
        next_position: int,
        place: Place,
        rows: Sequence[NewMessage],
        usage: Usage,
        *more: object,
    ) -> tuple[Message, ...]:
        rows = [_storable(row) for row in rows]
        contents = [_columns(row.content) for row in rows]
        written = await self._write(
            statement,
            lease,
            next_position,
            [row.message_id for row in rows],
            [row.type.value for row in rows],
            [row.source for row in rows],
            [columns.text for columns in contents],
            [row.reasoning for row in rows],
            [columns.call_id for columns in contents],
            [columns.tool_name for columns in contents],
            [columns.is_error for columns in contents],
            place.turn,
            place.round,
            usage.input_tokens,
            usage.cached_input_tokens,
            usage.output_tokens,
            usage.model_requests,
            *more,
        )
        now = get(written, "now", datetime)
        return tuple(_placed(row, lease, next_position + n, place, now) for n, row in enumerate(rows))

    async def see(self, lease: Lease, interrupt_ids: Sequence[MessageId]) -> None:
        """Record that the model has begun to answer a request that contained these, not seen before."""
        await self._write(_SEE, lease, interrupt_ids)

    async def start_tools(self, lease: Lease, place: Place, calls: Sequence[ToolCall]) -> None:
        """Record that these tools are about to be run."""
        ids, names = [call.call_id for call in calls], [call.name for call in calls]
        await self._write(_START_TOOLS, lease, ids, names, place.turn, place.round)

    async def fail_round(
        self, lease: Lease, place: Place, reason: RoundFailure, detail: str, pause_seconds: float
    ) -> None:
        """Record that a model request came to nothing, and release the session for a while."""
        await self._write(
            _FAIL_ROUND,
            lease,
            pause_seconds,
            place.turn,
            place.round,
            place.attempt,
            reason.value,
            detail.translate(_UNSTORABLE),
        )

    async def interrupt_round(self, lease: Lease, place: Place, estimate: Usage) -> None:
        """Record that a model request was cancelled so that an interrupt can be delivered."""
        at = place.turn, place.round, place.attempt
        await self._write(_INTERRUPT_ROUND, lease, *at, estimate.input_tokens, estimate.output_tokens)

    async def set_aside(self, lease: Lease, pause_seconds: float) -> None:
        """Release the session for a while, with nothing else changed."""
        await self._write(_SET_ASIDE, lease, pause_seconds)

    async def park(self, lease: Lease, deadline: datetime) -> None:
        """Release an open turn that waits: it is due at the deadline or at any interrupt."""
        await self._write(_RELEASE, lease, deadline)

    async def release(self, lease: Lease) -> None:
        """Give the session back as it stands: whoever takes an open turn goes on at once."""
        await self._write(_RELEASE, lease, None)

    async def _write(self, statement: str, lease: Lease, *values: object) -> Row:
        async with self._database.connection() as connection:
            written = await connection.fetchrow(statement, lease.session_id, lease.epoch, *values)
        if written is None:
            raise LeaseLost
        self._wakeups.hint(lease.session_id)
        return written


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


def _storable(row: NewMessage) -> NewMessage:
    """The row without what PostgreSQL cannot hold: what is shown to the model is what is stored."""

    def clean(text: str) -> str:
        return text.translate(_UNSTORABLE)

    content: Text | ToolCall | ToolResponse
    match row.content:
        case Text(text):
            content = Text(clean(text))
        case ToolCall(call_id, name, arguments_json):
            content = ToolCall(clean(call_id), clean(name), clean(arguments_json))
        case ToolResponse(call_id, name, text, is_error):
            content = ToolResponse(clean(call_id), clean(name), clean(text), is_error)
        case unreachable:
            assert_never(unreachable)
    return replace(row, content=content, reasoning=clean(row.reasoning))


def _placed(row: NewMessage, lease: Lease, position: int, place: Place, now: datetime) -> Message:
    return Message(
        row.message_id,
        lease.session_id,
        position,
        row.type,
        row.content,
        place.turn,
        place.round,
        now,
        row.source,
        row.reasoning,
    )
