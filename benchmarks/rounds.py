"""`round`: the loop's own time per round, with a model that answers at once.

The rows of a transcript that a summary covers must cost nothing, however many they are. The rows in the
context cost something each: they are read at a turn's start and made into messages at every round.
"""

from __future__ import annotations

import time
from asyncio import Event
from collections.abc import Callable, Sequence
from datetime import timedelta
from statistics import median
from typing import TypeAlias

from agent_service.domain import ReplicaId, SessionConfig, SessionId
from agent_service.loop.spread import Spread
from agent_service.store.database import Database
from agent_service.store.leases import Claim, Leases
from agent_service.store.servers import Own
from agent_service.wakeups import Wakeups
from benchmarks.bench import Bench
from benchmarks.figures import AtMost, Figure, Sample, Size, compare
from benchmarks.replica import CallingModel, agent
from benchmarks.store import new_sessions, new_store, registered

CALLS_PER_TURN = 10
ROUNDS_PER_TURN = CALLS_PER_TURN + 1
ROW_CHARACTERS = 300

# Sessions with the same context, and contexts without a summary.
SESSION_ROWS, CONTEXT_ROWS = (100, 10_000, 100_000), 50
SMOKE_SESSION_ROWS = 100, 1_000
CONTEXTS_ROWS = 100, 2_000

LIMIT = "CPU: rows and statements in Python; a safe point reads before it writes"

Clock: TypeAlias = Callable[[], float]

# Turns of four rows; all up to $3 are covered by a summary, the row after them.
_FILL = """
WITH filled AS (
    INSERT INTO messages (session_id, message_id, type, position, covers_through_position, turn, round, text,
                          call_id, tool_name, posted_at, posted_revision)
    SELECT $1, gen_random_uuid(),
           CASE WHEN n = $3 + 1 AND $3 > 0 THEN 'summary'
                ELSE (ARRAY['user', 'tool_call', 'tool_response', 'assistant'])[1 + (n - 1) % 4] END,
           n, CASE WHEN n = $3 + 1 THEN $3 ELSE 0 END, 1 + (n - 1) / 4, 1,
           CASE WHEN n % 4 = 2 THEN '{}' ELSE left(repeat(md5(n::text), 10), $4) END,
           CASE WHEN n % 4 IN (2, 3) THEN 'call' END, CASE WHEN n % 4 IN (2, 3) THEN 'now' END, now(), n + 1
    FROM generate_series(1, $2) n
    RETURNING message_id, posted_revision
), recorded AS (
    INSERT INTO events (session_id, revision, create_time, type, message_id)
    SELECT $1, posted_revision, now(), 'message_appended', message_id FROM filled
)
UPDATE sessions SET next_position = $2 + 1, revision = $2 + 1, turn = 1 + $2 / 4, due_at = NULL
WHERE session_id = $1"""

# Back to where it was filled, and due.
_REWIND = """
WITH messages_gone AS (DELETE FROM messages WHERE session_id = $1 AND position > $2),
     events_gone AS (DELETE FROM events WHERE session_id = $1 AND revision > $2 + 1)
UPDATE sessions SET next_position = $2 + 1, revision = $2 + 1, turn = 1 + $2 / 4, due_at = now()
WHERE session_id = $1"""

_COMMITS = """
SELECT count(DISTINCT xmin::text) FROM events WHERE session_id = $1 AND revision > $2 + 1"""

_BARE_TABLE = "CREATE TABLE bare_commits (body text)"
_BARE_COMMIT = "INSERT INTO bare_commits (body) VALUES ($1)"


class Rounds:
    """The agent with the real store, and sessions for it."""

    def __init__(self, database: Database, replica: ReplicaId) -> None:
        self._database, self._replica, self._leases = database, replica, Leases(database)
        model = CallingModel(CALLS_PER_TURN, seconds=0)
        self._agent = agent(database, Wakeups(), model, Spread(), Event())

    async def session(self, rows: int, covered: int) -> SessionId:
        """A session with so many rows, of which so many are covered by a summary."""
        # The cooldown keeps a session that had its turn from being claimed again.
        config = SessionConfig("", disable_inner_voice=True, cooldown=timedelta(days=1))
        (session_id,) = await new_sessions(self._database, 1, config)
        async with self._database.connection() as connection:
            await connection.execute(_FILL, session_id, rows, covered, ROW_CHARACTERS)
        return session_id

    async def commits(self, session_id: SessionId, rows: int) -> int:
        """How many commits a turn makes."""
        await self.turn(session_id, rows, time.perf_counter)()
        async with self._database.connection() as connection:
            commits: int = await connection.fetchval(_COMMITS, session_id, rows)
        return commits

    def turn(self, session_id: SessionId, rows: int, clock: Clock) -> Sample:
        """A turn of a session with so many rows, each time the same."""

        async def sample() -> float:
            claim = await self._rewound(session_id, rows)
            began = clock()
            await self._agent.run(claim)
            return clock() - began

        return sample

    async def _rewound(self, session_id: SessionId, rows: int) -> Claim:
        async with self._database.connection() as connection:
            await connection.execute(_REWIND, session_id, rows)
        (claim,) = await self._leases.claim_due(self._replica, limit=1)
        return claim


def _bare(connection: Own, commits: int, clock: Clock) -> Sample:
    body = "x" * ROW_CHARACTERS

    async def sample() -> float:
        began = clock()
        for _ in range(commits):
            await connection.execute(_BARE_COMMIT, body)
        return clock() - began

    return sample


async def figures(bench: Bench) -> list[Figure]:
    size = bench.size(pairs=5)
    async with new_store(bench, "round") as database:
        rounds, connection = Rounds(database, await registered(database)), await database.connect()
        await connection.execute(_BARE_TABLE)
        in_session = await _in_session(
            rounds, connection, size, SMOKE_SESSION_ROWS if bench.smoke else SESSION_ROWS
        )
        in_context = await _in_context(rounds, size)
        await connection.close()
    return [*in_session, in_context]


async def _in_session(
    rounds: Rounds, connection: Own, size: Size, rows_of_each: Sequence[int]
) -> list[Figure]:
    sessions = {rows: await rounds.session(rows, rows - CONTEXT_ROWS) for rows in rows_of_each}
    await connection.execute("VACUUM ANALYZE")
    fewest, *_, most = rows_of_each
    commits = await rounds.commits(sessions[fewest], fewest)
    found = []
    for rows, session_id in sessions.items():
        for what, clock in {"time": time.perf_counter, "CPU": time.process_time}.items():
            turn, bare = rounds.turn(session_id, rows, clock), _bare(connection, commits, clock)
            name = f"round in a session of {rows:,} rows: {what}"
            found.append(Figure(name, "its commits, bare", None, await compare(size, turn, bare), LIMIT))
    small, large = [rounds.turn(sessions[rows], rows, time.perf_counter) for rows in (fewest, most)]
    flat = Figure(
        f"round in a session of {most:,} rows: time",
        f"of {fewest} rows; {CONTEXT_ROWS} are in the context of both",
        AtMost(1.2),
        await compare(size, large, small),
        "nothing: what a summary covers is not read",
    )
    return [*found, flat]


async def _in_context(rounds: Rounds, size: Size) -> Figure:
    fewer, more = CONTEXTS_ROWS
    short, long = [
        rounds.turn(await rounds.session(rows, 0), rows, time.perf_counter) for rows in CONTEXTS_ROWS
    ]
    blocks = await compare(size, long, short)
    seconds = median(median(block.measured) - median(block.baseline) for block in blocks)
    microseconds = 1e6 * seconds / ROUNDS_PER_TURN / (more - fewer)
    note = f"{microseconds:.1f} µs for each row"
    name = f"round with {more:,} rows in the context: time"
    limit = "CPU: each row is read once a turn, and made into a message in every round"
    return Figure(name, f"with {fewer} rows", None, blocks, limit, note)
