"""`loop`: the loop's own time per round, with a model that answers at once.

The rows of a transcript that a summary covers must cost nothing, however many they are. The rows in the
context cost something each: they are read at a turn's start and made into messages at every round.
"""

import time
from asyncio import Event
from collections.abc import AsyncGenerator, Iterator
from datetime import timedelta
from itertools import cycle
from statistics import median
from uuid import uuid4

from agent_service.domain import Lease, NewSession, Placement, ReplicaId, SessionConfig, SessionId
from agent_service.loop.agent import Agent
from agent_service.loop.frame import RENDER_VERSION
from agent_service.loop.interruption import Interruption
from agent_service.loop.profiles import Profiles
from agent_service.loop.spread import Spread
from agent_service.model import Chunk, Request, Served, ToolCallPiece
from agent_service.store.database import Database, migrate, open_database
from agent_service.store.leases import Leases, register
from agent_service.store.model_profiles import ModelProfiles
from agent_service.store.safe_points import SafePoints
from agent_service.store.sessions import Sessions
from agent_service.store.transcript import Transcript
from agent_service.tools import Toolbox
from agent_service.tools.builtin import builtin_tools
from agent_service.wakeups import Wakeups
from benchmarks.figures import Figure, Sample, Size, compare

CALLS_PER_TURN = 10
ROUNDS_PER_TURN = CALLS_PER_TURN + 1
ROW_CHARACTERS = 200
LEASE_SECONDS = 3600

# Two sessions with the same context, and two contexts without a summary.
SESSION_ROWS, CONTEXT_ROWS = (100, 10_000), 50
CONTEXTS_ROWS = 100, 2_000

# Turns of four rows; all up to $3 are covered by a summary, the row after them.
_FILL = """
WITH filled AS (
    INSERT INTO messages (session_id, message_id, type, position, covers_through_position, turn, round, text,
                          call_id, tool_name, posted_at, posted_revision)
    SELECT $1, gen_random_uuid(),
           CASE WHEN n = $3 + 1 AND $3 > 0 THEN 'summary'
                ELSE (ARRAY['user', 'tool_call', 'tool_response', 'assistant'])[1 + (n - 1) % 4] END,
           n, CASE WHEN n = $3 + 1 THEN $3 ELSE 0 END, 1 + (n - 1) / 4, 1,
           CASE WHEN n % 4 = 2 THEN '{}' ELSE repeat('x', $4) END,
           CASE WHEN n % 4 IN (2, 3) THEN 'call' END, CASE WHEN n % 4 IN (2, 3) THEN 'now' END, now(), n + 1
    FROM generate_series(1, $2) n
    RETURNING message_id, posted_revision
), recorded AS (
    INSERT INTO events (session_id, revision, create_time, type, message_id)
    SELECT $1, posted_revision, now(), 'message_appended', message_id FROM filled
)
UPDATE sessions SET next_position = $2 + 1, revision = $2 + 1, turn = 1 + $2 / 4, due_at = NULL
WHERE session_id = $1"""

_MAKE_DUE = "UPDATE sessions SET due_at = now() WHERE session_id = $1"


class CallingModel:
    """Calls `now` in each of so many rounds, then answers, and begins again."""

    def __init__(self, calls: int) -> None:
        self._replies: Iterator[Chunk] = cycle(
            [*[Chunk(tool_calls=(ToolCallPiece(0, name="now"),))] * calls, Chunk(text="Done.")]
        )

    async def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        yield next(self._replies)

    async def context_window(self) -> int | None:
        return None

    @property
    def served(self) -> Served:
        return Served("", "calling", Placement.SYSTEM)

    async def render(self, request: Request) -> str | None:
        return None


class Bench:
    """The agent with the real store, and sessions for it."""

    def __init__(self, database: Database, replica: ReplicaId) -> None:
        self._database, self._replica, wakeups = database, replica, Wakeups()
        self._sessions, self._leases = Sessions(database, wakeups), Leases(database)
        model = CallingModel(CALLS_PER_TURN)
        safe_points = SafePoints(database, wakeups, RENDER_VERSION)
        self._agent = Agent.of(
            Transcript(database, wakeups),
            safe_points,
            lambda name: model,
            Profiles(lambda name: model, ModelProfiles(database)),
            Toolbox(builtin_tools(), max_output_bytes=1024, timeout_seconds=60),
            wakeups,
            Interruption(safe_points, wakeups, poll_seconds=1),
            Spread(),
            stopping=Event(),
        )

    async def rounds(self, count: int, rows: int, covered: int) -> Sample:
        """A round's time in the next turn of a session, for so many sessions alike."""
        session_ids = iter([await self._session(rows, covered) for _ in range(count)])

        async def sample() -> float:
            lease = await self._claim(next(session_ids))
            began = time.perf_counter()
            await self._agent.run(lease)
            return (time.perf_counter() - began) / ROUNDS_PER_TURN

        return sample

    async def _session(self, rows: int, covered: int) -> SessionId:
        # The cooldown keeps a session that had its turn from being claimed again.
        config = SessionConfig("", disable_inner_voice=True, cooldown=timedelta(days=1))
        session_id = (await self._sessions.create(NewSession("", "Go on.", config, {}))).session.session_id
        async with self._database.connection() as connection:
            await connection.execute(_FILL, session_id, rows, covered, ROW_CHARACTERS)
        return session_id

    async def _claim(self, session_id: SessionId) -> Lease:
        async with self._database.connection() as connection:
            await connection.execute(_MAKE_DUE, session_id)
        (lease,) = await self._leases.claim_due(self._replica, limit=1)
        return lease


async def _registered(database: Database) -> ReplicaId:
    replica, connection = ReplicaId(uuid4()), await database.connect()
    await register(connection, replica, "127.0.0.1:1", LEASE_SECONDS)
    await connection.close()
    return replica


async def figures(database_url: str, size: Size) -> list[Figure]:
    async with open_database(database_url) as database:
        await migrate(database)
        bench = Bench(database, await _registered(database))
        few, many = [await bench.rounds(size.samples, rows, rows - CONTEXT_ROWS) for rows in SESSION_ROWS]
        short, long = [await bench.rounds(size.samples, rows, 0) for rows in CONTEXTS_ROWS]
        async with database.connection() as connection:
            await connection.execute("VACUUM ANALYZE")
        in_session, in_context = await compare(size, many, few), await compare(size, long, short)
        async with database.connection() as connection:
            ended = await connection.fetchval("SELECT count(*) FROM events WHERE type = 'turn_ended'")
    assert ended == 4 * size.samples, "not every turn came to its end"
    less, more = CONTEXTS_ROWS
    row_seconds = median(block.measured - block.baseline for block in in_context) / (more - less)
    return [
        Figure(
            f"loop: a round with {SESSION_ROWS[1]:,} rows",
            f"with {SESSION_ROWS[0]} rows, of which {CONTEXT_ROWS} are in the context of both",
            1.5,
            in_session,
        ),
        Figure(
            f"loop: a round with {more:,} rows in the context",
            f"with {less} rows in the context",
            None,
            in_context,
            f"{row_seconds * 1e6:.1f} µs for each row",
        ),
    ]
