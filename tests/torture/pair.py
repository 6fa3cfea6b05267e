"""A primary and its standby, at two ports that stay: after a failover a new standby is built."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

from tests.e2e.databases import connected
from tests.servers.postgres import Cluster, cluster
from tests.support import until

_COPIES = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"
_SETTINGS = {
    "synchronous_standby_names": "standby",
    "wal_retrieve_retry_interval": "200ms",
    "max_connections": "200",
}


@dataclass
class Pair:
    primary: Cluster
    standby: Cluster
    _directory: Path
    _stack: AsyncExitStack
    _numbers: count

    @property
    def ports(self) -> tuple[int, int]:
        return self.primary.port, self.standby.port

    @property
    def url(self) -> str:
        """Of the primary, from whichever side."""
        return self.primary.url()

    async def fail_over(self) -> None:
        """The primary is dead, and its standby takes its place, without one of its own."""
        self.primary.kill()
        await self.standby.promote()

    async def rebuild(self) -> None:
        """Give the new primary a standby, at the port of the old one."""
        promoted, port = self.standby, self.primary.port
        copy = promoted.standby(self._directory / f"server-{next(self._numbers)}", port)
        self.standby = await self._stack.enter_async_context(copy)
        self.primary = replace(promoted, settings=_SETTINGS)
        await self.primary.stop("fast")
        await self.primary.start()
        await self.until_copied()

    async def until_copied(self) -> None:
        """Wait until commits are at both."""
        async with connected(self.url) as observer:

            async def copied() -> bool:
                return await observer.fetchval(_COPIES) == 1

            await until(copied)


@asynccontextmanager
async def pair(directory: Path, users: list[str]) -> AsyncIterator[Pair]:
    """With an empty database, in which each of the users may do everything."""
    async with AsyncExitStack() as stack:
        numbers = count(1)
        primary = await stack.enter_async_context(cluster(directory / f"server-{next(numbers)}", **_SETTINGS))
        standby = await stack.enter_async_context(primary.standby(directory / f"server-{next(numbers)}"))
        made = Pair(primary, standby, directory, stack, numbers)
        await made.until_copied()
        async with connected(made.url) as connection:
            for user in users:
                await connection.execute(f'CREATE ROLE "{user}" SUPERUSER LOGIN')
        yield made
