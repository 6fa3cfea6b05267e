"""`recovery`: kill -9 of one of three replicas, until all that it ran goes on elsewhere."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

from agent_service.domain import SessionConfig
from agent_service.store.servers import Own
from benchmarks.bench import Bench
from benchmarks.figures import AtMost, Block, Figure
from benchmarks.processes import Process, running
from benchmarks.store import new_sessions, new_store

REPLICAS, SESSIONS, SMOKE_SESSIONS = 3, 30, 6
# Those that are the default, and shorter ones for a smoke run.
LEASE_SECONDS, POLL_SECONDS = 10.0, 1.0
SMOKE_LEASE_SECONDS, SMOKE_POLL_SECONDS = 1.5, 0.3
LOOK_SECONDS = 0.02
LIMIT = "what is left of the lease, and a poll"

_CALM = """
SELECT count(*) = $1 FROM sessions JOIN replicas ON replica_id = lease_owner
WHERE lease_until > clock_timestamp() AND attempts = 0"""

_BUSIEST = """
SELECT address FROM replicas JOIN sessions ON lease_owner = replica_id GROUP BY address
ORDER BY count(*) DESC LIMIT 1"""

_RAN = """
SELECT session_id, revision FROM sessions JOIN replicas ON replica_id = lease_owner WHERE address = $1"""

# Nobody writes into a session but its holder.
_WENT_ON = """
SELECT bool_and(s.revision > ran.revision)
FROM sessions s JOIN unnest($1::uuid[], $2::bigint[]) AS ran (session_id, revision) USING (session_id)"""


async def figures(bench: Bench) -> list[Figure]:
    lease_seconds = bench.choose(LEASE_SECONDS, smoke=SMOKE_LEASE_SECONDS)
    poll_seconds = bench.choose(POLL_SECONDS, smoke=SMOKE_POLL_SECONDS)
    async with new_store(bench, "recovery") as database, AsyncExitStack() as replicas:
        sessions = bench.choose(SESSIONS, smoke=SMOKE_SESSIONS)
        await new_sessions(database, sessions, SessionConfig("demo"))
        connection = await database.connect()
        replicas.push_async_callback(connection.close)

        async def start() -> Process:
            return await replicas.enter_async_context(
                running(
                    bench.directory,
                    "agent_service",
                    SPARK_DATABASE_URL=bench.database_url("recovery"),
                    SPARK_AGENT_LISTEN="127.0.0.1:0",
                    SPARK_LEASE_SECONDS=str(lease_seconds),
                    SPARK_POLL_SECONDS=str(poll_seconds),
                )
            )

        alive: dict[str, Process] = {}
        blocks = []
        for _ in range(bench.size(pairs=1, blocks=5).blocks):
            while len(alive) < REPLICAS:
                another = await start()
                alive[another.address] = another
            blocks.append(Block([await _recovery(connection, alive, sessions)], [lease_seconds]))
    name = f"kill -9 of one of {REPLICAS} replicas: until all of its sessions go on"
    return [Figure(name, f"the time of a lease, {lease_seconds:g} s", AtMost(2), blocks, LIMIT)]


async def _recovery(connection: Own, alive: dict[str, Process], sessions: int) -> float:
    """Kill the replica that has most to do; gives the seconds until all of it goes on."""
    await _until(lambda: connection.fetchval(_CALM, sessions))
    victim = alive.pop(await connection.fetchval(_BUSIEST))
    began = time.perf_counter()
    await victim.kill()
    ran = await connection.fetch(_RAN, victim.address)
    session_ids, revisions = [row["session_id"] for row in ran], [row["revision"] for row in ran]
    await _until(lambda: connection.fetchval(_WENT_ON, session_ids, revisions))
    return time.perf_counter() - began


async def _until(holds: Callable[[], Awaitable[object]]) -> None:
    while True:
        if await holds():
            return
        await asyncio.sleep(LOOK_SECONDS)
