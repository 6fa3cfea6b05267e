"""Replicas as far as they tell each other hints, and what can happen to their connections."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field

from agent_service.domain import SessionId
from agent_service.store.database import Database
from agent_service.store.servers import Own
from agent_service.wakeups import Wakeups, Watch
from agent_service.wakeups.relay import relaying
from tests.support import until
from tests.wakeups.watches import HOURS

LISTENERS, NOTIFIERS = "LISTEN%", "SELECT pg_notify%"


@dataclass(frozen=True)
class Replica:
    """What a process has of hints, with all that its dispatcher was told."""

    wakeups: Wakeups
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    offered: list[SessionId | None] = field(default_factory=list)

    def hint(self, session_id: SessionId) -> None:
        self.wakeups.hint(session_id)

    def watch(self, session_id: SessionId) -> AbstractContextManager[Watch]:
        return self.wakeups.watch(session_id)

    async def until_scans(self, count: int) -> None:
        async def scanned() -> bool:
            return self.offered.count(None) >= count

        await until(scanned)


@asynccontextmanager
async def replica(
    database: Database, beat_seconds: float = HOURS, wakeups: Wakeups | None = None
) -> AsyncIterator[Replica]:
    """One that listens."""
    opened = Replica(wakeups or Wakeups())
    opened.wakeups.listen(opened.offered.append)
    async with relaying(database, opened.wakeups, opened.stopping, beat_seconds):
        await opened.until_scans(1)
        yield opened


@asynccontextmanager
async def own_connection(database: Database) -> AsyncIterator[Own]:
    connection = await database.connect()
    try:
        yield connection
    finally:
        await connection.close()


async def backends(database: Database, of: str) -> list[int]:
    """The backends of connections of a kind."""
    async with database.connection() as connection:
        rows = await connection.fetch(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE $1", of
        )
    return [row["pid"] for row in rows]


async def until_backends(database: Database, of: str, count: int) -> list[int]:
    """So many of them, as soon as they are there."""

    async def there() -> bool:
        return len(await backends(database, of)) == count

    await until(there)
    return await backends(database, of)


async def cut(database: Database, pids: list[int]) -> None:
    """Kill backends, and wait until they are gone."""
    async with database.connection() as connection:
        await connection.execute("SELECT pg_terminate_backend(pid, 9000) FROM unnest($1::int[]) AS pid", pids)


@contextmanager
def silent(pids: list[int]) -> Iterator[None]:
    """Backends that do nothing, as at the other end of a path that was cut without a word."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
