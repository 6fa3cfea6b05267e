"""`crowd`: many sessions, asleep in the table and at work on one replica."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import NamedTuple

import psutil

from agent_service.domain import SessionConfig
from agent_service.store.leases import Leases
from agent_service.store.servers import Own
from benchmarks.bench import Bench
from benchmarks.figures import AtMost, Block, Figure, Sample, compare
from benchmarks.processes import running
from benchmarks.store import new_sessions, new_store, registered

FEW_ASLEEP, MANY_ASLEEP = 1_000, 100_000
FEW_AT_WORK, MANY_AT_WORK = 10, 1_000
# A reply takes so long, and so does the pause after a turn.
REPLY_SECONDS, SMOKE_REPLY_SECONDS = 1.0, 0.1
# Until every session has been claimed, and then as long as it is watched.
SETTLING_SECONDS = WATCHED_SECONDS = 10.0
SMOKE_SECONDS = 1.0

# Half of them for ever, half for a while.
_ASLEEP = """
INSERT INTO sessions (session_id, create_time, goal, state, config, labels, frame_tag, due_at)
SELECT gen_random_uuid(), create_time, goal, state, config, labels, frame_tag,
       CASE WHEN n % 2 = 0 THEN now() + n * interval '1 minute' END
FROM sessions, generate_series(1, $1) n"""

_MAKE_DUE = "UPDATE sessions SET lease_owner = NULL, due_at = now() WHERE session_id = $1"

_ROUNDS = "SELECT count(*) FROM events WHERE type = 'round_started'"

_TEXT_BYTES = "SELECT sum(octet_length(text))::float8 FROM messages"

_LATE_SECONDS = """
WITH turns AS (
    SELECT type, create_time,
           create_time - lag(create_time) OVER (PARTITION BY session_id ORDER BY revision) AS idle
    FROM events WHERE type IN ('turn_started', 'turn_ended'))
SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM idle)::float8)
FROM turns WHERE type = 'turn_started' AND create_time > now() - $1 * interval '1 second'"""


async def figures(bench: Bench) -> list[Figure]:
    return [await _claim(bench), *await _at_work(bench)]


async def _claim(bench: Bench) -> Figure:
    many, few = bench.choose(MANY_ASLEEP, smoke=1_000), bench.choose(FEW_ASLEEP, smoke=100)
    async with _sleepers(bench, many) as among_many, _sleepers(bench, few) as among_few:
        blocks = await compare(bench.size(pairs=50), among_many, among_few)
    limit = "nothing: partial indexes hold only what nobody runs"
    return Figure(f"claim among {many:,} asleep: time", f"among {few:,}", AtMost(1.2), blocks, limit)


@asynccontextmanager
async def _sleepers(bench: Bench, count: int) -> AsyncIterator[Sample]:
    """A sample is the claim of one that is due among so many that are not."""
    async with new_store(bench, f"asleep_{count}") as database:
        replica, leases = await registered(database), Leases(database)
        (session_id,) = await new_sessions(database, 1, _config(cooldown_seconds=86_400))
        async with database.connection() as connection:
            await connection.execute(_ASLEEP, count)
            await connection.execute("VACUUM ANALYZE sessions")

        async def sample() -> float:
            async with database.connection() as connection:
                await connection.execute(_MAKE_DUE, session_id)
            began = time.perf_counter()
            (claim,) = await leases.claim_due(replica, limit=100)
            seconds = time.perf_counter() - began
            assert claim.lease.session_id == session_id
            return seconds

        yield sample


class _Load(NamedTuple):
    """What a replica needs."""

    memory_bytes: float
    cpu_seconds_of_round: float
    late_seconds: float
    text_bytes: float


async def _at_work(bench: Bench) -> list[Figure]:
    many, few = bench.choose(MANY_AT_WORK, smoke=10), bench.choose(FEW_AT_WORK, smoke=2)
    pairs = []
    for number in range(bench.size(pairs=1, blocks=3).blocks):
        loads = [await _load(bench, f"{count}_at_work_{number}", count) for count in (many, few)]
        pairs.append(loads)
    name, to = f"{many:,} at work, a second for a reply", f"{few} at work"

    def figure(what: str, baseline: str, blocks: list[Block], limit: str, note: str) -> Figure:
        return Figure(f"{name}: {what}", baseline, None, blocks, limit, note)

    memory = [(more.memory_bytes - less.memory_bytes) / (many - few) for more, less in pairs]
    return [
        figure(
            "memory for each session",
            "the text in it",
            [Block([each], [more.text_bytes / many]) for each, (more, _) in zip(memory, pairs, strict=True)],
            "a task, its guards, and its transcript as Python objects",
            f"{max(memory) / 1024:.0f} KiB",
        ),
        figure(
            "CPU for a round",
            to,
            [Block([more.cpu_seconds_of_round], [less.cpu_seconds_of_round]) for more, less in pairs],
            "statements in Python; the poll is shared by more rounds",
            f"{max(more.cpu_seconds_of_round for more, _ in pairs) * 1e3:.1f} ms",
        ),
        figure(
            "how late a turn starts",
            to,
            [Block([more.late_seconds], [less.late_seconds]) for more, less in pairs],
            "the core of a replica that has more to do than it can; with few, the poll",
            f"{max(more.late_seconds for more, _ in pairs) * 1e3:.0f} ms",
        ),
    ]


async def _load(bench: Bench, name: str, sessions: int) -> _Load:
    reply_seconds = bench.choose(REPLY_SECONDS, smoke=SMOKE_REPLY_SECONDS)
    watched_seconds = bench.choose(WATCHED_SECONDS, smoke=SMOKE_SECONDS)
    async with new_store(bench, name) as database:
        await new_sessions(database, sessions, _config(reply_seconds))
        connection = await database.connect()
        async with running(
            bench.directory, "benchmarks.replica", bench.database_url(name), str(reply_seconds)
        ) as replica:
            process = psutil.Process(replica.process.pid)
            await asyncio.sleep(bench.choose(SETTLING_SECONDS, smoke=SMOKE_SECONDS))
            began, before = time.perf_counter(), await _spent(connection, process)
            after, idle_seconds = before, None
            # On a busy machine it may take longer until a turn and a round begin.
            while idle_seconds is None or after[1] == before[1]:
                await asyncio.sleep(watched_seconds)
                after = await _spent(connection, process)
                idle_seconds = await connection.fetchval(_LATE_SECONDS, time.perf_counter() - began)
            memory_bytes = process.memory_info().rss
            text_bytes = await connection.fetchval(_TEXT_BYTES)
        await connection.close()
    cpu_seconds, rounds = (now - then for now, then in zip(after, before, strict=True))
    return _Load(memory_bytes, cpu_seconds / rounds, idle_seconds - reply_seconds, text_bytes)


async def _spent(connection: Own, process: psutil.Process) -> tuple[float, int]:
    """Seconds of CPU, and rounds begun."""
    times = process.cpu_times()
    return times.user + times.system, await connection.fetchval(_ROUNDS)


def _config(cooldown_seconds: float) -> SessionConfig:
    return SessionConfig("", disable_inner_voice=True, cooldown=timedelta(seconds=cooldown_seconds))
