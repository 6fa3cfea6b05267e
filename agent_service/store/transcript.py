"""Reading a transcript, and the holder's statements that only append to it.

Each is one statement, which compares the lease's epoch and allocates revisions and positions. It raises
LeaseLost where the session is no longer the holder's, and Unavailable where nobody knows whether it happened:
the holder then forgets the session and never repeats the write.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import dropwhile

from agent_service.domain import (
    Lease,
    Message,
    MessageId,
    NewMessage,
    Place,
    ReplicaId,
    RoundFailure,
    SessionId,
    Terms,
    ToolCall,
    TurnEnd,
    Usage,
    storable,
)
from agent_service.errors import LeaseLost
from agent_service.store.database import Database
from agent_service.store.leases import SUSPECT_ATTEMPTS, Claim
from agent_service.store.new_rows import COLUMNS, arrays, cleaned, placed
from agent_service.store.release import DUE_AFTER_TURN, RELEASED, due
from agent_service.store.rows import (
    MESSAGE_COLUMNS,
    Row,
    get,
    message,
    terms,
)
from agent_service.store.standing import WAITING, Standing, standing
from agent_service.wakeups import Wakeups

# The newest summary stands for everything up to the position it names, and is read before what follows. After
# them all what waits.
_LOAD_ROWS = f"""
WITH newest AS (
    SELECT coalesce(max(covers_through_position), 0) AS covered FROM messages
    WHERE session_id = $1 AND type = 'summary'
), shown AS (
    SELECT {MESSAGE_COLUMNS}, 0 AS waiting FROM messages, newest
    WHERE session_id = $1 AND position > covered AND (type <> 'summary' OR covers_through_position = covered)
), waiting AS ({WAITING})
SELECT * FROM (SELECT * FROM shown UNION ALL SELECT * FROM waiting) AS loaded
ORDER BY position IS NULL, type <> 'summary', position, posted_revision"""

# Takes: $1 session, $2 epoch, $3 next position, $4 to $12 the rows, $13 turn, $14 round, $15 to $18 usage.
_APPEND = f"""
WITH held AS (
    UPDATE sessions
    SET revision = revision + cardinality($4::uuid[]) + {{more_events}},
        next_position = next_position + cardinality($4::uuid[]),
        input_tokens = input_tokens + $15, cached_input_tokens = cached_input_tokens + $16,
        output_tokens = output_tokens + $17, model_requests = model_requests + $18{{more_sets}}
    WHERE session_id = $1 AND lease_epoch = $2 AND next_position = $3
    RETURNING revision - cardinality($4::uuid[]) - {{more_events}} AS base, clock_timestamp() AS now
), rows AS (
    SELECT * FROM unnest($4::uuid[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[],
                         $11::bool[], $12::float8[])
    WITH ORDINALITY AS r ({COLUMNS}, n)
), appended AS (
    INSERT INTO messages (session_id, message_id, type, source, position, turn, round, text, reasoning,
                          call_id, tool_name, is_error, deadline, posted_at, posted_revision{{more_columns}})
    SELECT $1, message_id, type, source, $3 + n - 1, $13, $14, text, reasoning, call_id, tool_name, is_error,
           now + wait_seconds * interval '1 second', now, base + n{{more_values}} FROM held, rows
), recorded AS (
    INSERT INTO events (session_id, revision, create_time, type, message_id, data)
    SELECT $1, base + n, now, {{event}}, message_id, {{data}} FROM held, rows
){{more_ctes}}
SELECT now FROM held"""


def _append(
    more_sets: str = "",
    more_events: int = 0,
    more_ctes: str = "",
    more_columns: str = "",
    more_values: str = "",
    event: str = "'message_appended'",
    data: str = "NULL::jsonb",
) -> str:
    """The statement that appends rows, with what else is to happen in it."""
    return _APPEND.format(
        more_sets=more_sets,
        more_events=more_events,
        more_ctes=more_ctes,
        more_columns=more_columns,
        more_values=more_values,
        event=event,
        data=data,
    )


_APPEND_ROWS = _append()

# A reply completes a round: what went wrong before is forgiven.
_REPLIED = ", attempts = 0, context_tokens = $15 + $17"

_APPEND_REPLY = _append(more_sets=_REPLIED)

_APPEND_ANSWER = _append(
    more_sets=f"{_REPLIED}, turn_open = false, not_before = NULL, {RELEASED}, due_at = {DUE_AFTER_TURN}",
    more_events=1,
    more_ctes=""", ended AS (
    INSERT INTO events (session_id, revision, create_time, type, data)
    SELECT $1, base + cardinality($4::uuid[]) + 1, now, 'turn_ended',
           jsonb_build_object('turn', $19::int, 'reason', $20::text) FROM held
)""",
)

# The summary belongs to the last reply that it covers or follows, whatever the turn has come to.
_COMPACT = _append(
    more_sets=", system_prompt = $20, notes = $21::jsonb, announced = $22, context_tokens = 0",
    more_columns=", covers_through_position",
    more_values=", $19::bigint",
    event="'compacted'",
    data="jsonb_build_object('handled_interrupts', $23::int, 'cut', $24::bool)",
)

# The newest interrupts of a transcript up to a position, and how many there are.
_HANDLED = """
SELECT source, posted_at, count(*) OVER () AS all_of_them FROM messages
WHERE session_id = $1 AND type = 'system' AND position <= $2
ORDER BY position DESC LIMIT $3"""

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

# What is told of a model request that came to nothing.
_FAILURE = """
INSERT INTO events (session_id, revision, create_time, type, data)
SELECT $1, revision, now, 'round_failed', jsonb_build_object(
    'turn', $3::int, 'round', $4::int, 'attempt', $5::int, 'reason', $6::text, 'detail', $7::text,
    'retry_time', retry_time) FROM held"""

_SPENT = """model_requests = model_requests + 1,
        input_tokens = input_tokens + $8, output_tokens = output_tokens + $9"""

_IN = "clock_timestamp() + {} * interval '1 second'"

_FAIL_ROUND = f"""
WITH held AS (
    UPDATE sessions
    SET revision = revision + 1, {_SPENT}, {RELEASED},
        due_at = {due(open_turn=_IN.format("$10"))}, not_before = {_IN.format("$10")}
    WHERE session_id = $1 AND lease_epoch = $2
    RETURNING revision, not_before AS retry_time, clock_timestamp() AS now
), recorded AS ({_FAILURE})
SELECT now FROM held"""

# The holder goes on.
_FAIL_REQUEST = f"""
WITH held AS (
    UPDATE sessions
    SET revision = revision + 1, {_SPENT}, interrupted = interrupted OR $6::text = 'interrupted'
    WHERE session_id = $1 AND lease_epoch = $2
    RETURNING revision, NULL::timestamptz AS retry_time, clock_timestamp() AS now
), recorded AS ({_FAILURE})
SELECT now FROM held"""

# To nobody unless a replica is named that is there and takes sessions. What is paused or suspect is handed to
# nobody.
_RELEASE = f"""
UPDATE sessions
SET lease_epoch = lease_epoch + 1, due_at = {due(open_turn="coalesce($3, clock_timestamp())")},
    lease_owner = (SELECT replica_id FROM replicas
        WHERE replica_id = $4 AND lease_until > now() AND max_sessions > 0
          AND state = 'active' AND attempts < {SUSPECT_ATTEMPTS})
WHERE session_id = $1 AND lease_epoch = $2
RETURNING clock_timestamp() AS now"""

_SET_ASIDE = f"""
UPDATE sessions
SET {RELEASED}, due_at = {due(open_turn=_IN.format("$3"))}, not_before = {_IN.format("$3")}
WHERE session_id = $1 AND lease_epoch = $2
RETURNING clock_timestamp() AS now"""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A session as its new holder finds it. There are terms from the first turn on; those of an open turn are
    outdated where the session was changed and then resumed."""

    standing: Standing
    terms: Terms | None
    terms_outdated: bool
    frame_tag: str
    turn_open: bool
    context_tokens: int
    bytes_per_token: float
    rows: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Handled:
    """Interrupts that a summary stands for: how many, and source and time of the newest, oldest first."""

    count: int
    newest: tuple[tuple[str, datetime], ...]


@dataclass(frozen=True, slots=True)
class Compaction:
    """What a compaction writes. The summary belongs to the round of the last reply."""

    summary: NewMessage
    covers_through_position: int
    place: Place
    terms: Terms
    handled_interrupts: int
    # No model wrote the summary.
    cut: bool
    usage: Usage


class Transcript:
    def __init__(self, database: Database, wakeups: Wakeups) -> None:
        self._database, self._wakeups = database, wakeups

    async def load(self, claim: Claim) -> Snapshot:
        """Read what the holder needs beside the session: the rows that its requests are built from, and what
        waits. Should somebody else have the session by now, the holder's first write will tell."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(_LOAD_ROWS, claim.lease.session_id)
        row, waiting = claim.row, list(dropwhile(lambda row: row["position"], rows))
        return Snapshot(
            standing(row, waiting, claim.taken_at),
            terms(row),
            get(row, "terms_outdated", bool),
            get(row, "frame_tag", str),
            get(row, "turn_open", bool),
            get(row, "context_tokens", int),
            get(row, "bytes_per_token", float),
            tuple(message(row) for row in rows[: len(rows) - len(waiting)]),
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
        ended = place.turn, TurnEnd.ANSWERED.value
        return await self._append(_APPEND_ANSWER, lease, next_position, place, rows, usage, *ended)

    async def compact(self, lease: Lease, next_position: int, made: Compaction) -> Message:
        """Append a summary that is read in place of what it covers, and change what the turn runs with."""
        (summary,) = await self._append(
            _COMPACT,
            lease,
            next_position,
            made.place,
            [made.summary],
            made.usage,
            made.covers_through_position,
            made.terms.system_prompt,
            made.terms.notes,
            made.terms.announced.value if made.terms.announced else None,
            made.handled_interrupts,
            made.cut,
        )
        return replace(summary, covers_through_position=made.covers_through_position)

    async def handled(self, session_id: SessionId, through_position: int, limit: int) -> Handled:
        """The interrupts delivered up to a position, the newest so many of them in detail."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(_HANDLED, session_id, through_position, limit)
        newest = [(get(row, "source", str), get(row, "posted_at", datetime)) for row in reversed(rows)]
        return Handled(get(rows[0], "all_of_them", int) if rows else 0, tuple(newest))

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
        rows = [cleaned(row) for row in rows]
        written = await self._write(
            statement,
            lease,
            next_position,
            *arrays(rows),
            place.turn,
            place.round,
            usage.input_tokens,
            usage.cached_input_tokens,
            usage.output_tokens,
            usage.model_requests,
            *more,
        )
        now = get(written, "now", datetime)
        return tuple(
            placed(row, lease.session_id, next_position + n, place, now) for n, row in enumerate(rows)
        )

    async def see(self, lease: Lease, interrupt_ids: Sequence[MessageId]) -> None:
        """Record that the model has begun to answer a request that contained these, not seen before."""
        await self._write(_SEE, lease, interrupt_ids)

    async def start_tools(self, lease: Lease, place: Place, calls: Sequence[ToolCall]) -> None:
        """Record that these tools are about to be run."""
        ids, names = [call.call_id for call in calls], [call.name for call in calls]
        await self._write(_START_TOOLS, lease, ids, names, place.turn, place.round)

    async def fail_round(
        self,
        lease: Lease,
        place: Place,
        reason: RoundFailure,
        detail: str,
        cost: Usage,
        pause_seconds: float,
    ) -> None:
        """Record that a model request came to nothing, and release the session for a while."""
        await self._write(_FAIL_ROUND, lease, *_failure(place, reason, detail, cost), pause_seconds)

    async def fail_request(
        self, lease: Lease, place: Place, reason: RoundFailure, detail: str, cost: Usage
    ) -> None:
        """Record that a model request came to nothing, and keep the session: it is asked again at once."""
        await self._write(_FAIL_REQUEST, lease, *_failure(place, reason, detail, cost))

    async def set_aside(self, lease: Lease, pause_seconds: float) -> None:
        """Release the session for a while, with nothing else changed."""
        await self._write(_SET_ASIDE, lease, pause_seconds)

    async def park(self, lease: Lease, deadline: datetime) -> None:
        """Release an open turn that waits: it is due at the deadline or at any interrupt."""
        await self._write(_RELEASE, lease, deadline, None)

    async def release(self, lease: Lease, taker: ReplicaId | None = None) -> None:
        """Give the session back as it stands, or hand it over: whoever has an open turn goes on at once."""
        await self._write(_RELEASE, lease, None, taker)

    async def _write(self, statement: str, lease: Lease, *values: object) -> Row:
        async with self._database.connection() as connection:
            written = await connection.fetchrow(statement, lease.session_id, lease.epoch, *values)
        if written is None:
            raise LeaseLost
        self._wakeups.hint(lease.session_id)
        return written


def _failure(place: Place, reason: RoundFailure, detail: str, cost: Usage) -> tuple[object, ...]:
    told = reason.value, storable(detail)
    return place.turn, place.round, place.attempt, *told, cost.input_tokens, cost.output_tokens
