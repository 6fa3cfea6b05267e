"""PostgreSQL fails under load: what was acknowledged is kept, and everything goes on by itself."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace

import asyncpg
import pytest
import pytest_asyncio

from tests.e2e.databases import connected
from tests.e2e.posters import House, Posters, house
from tests.servers.disk import small_disk
from tests.servers.postgres import Cluster, cluster, frozen, reachable
from tests.servers.proxy import Proxy, Way, proxy
from tests.support import until

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass(frozen=True)
class Site:
    """Services, and the line to their database."""

    postgres: Cluster
    line: Proxy
    house: House

    @property
    def posters(self) -> Posters:
        return self.house.posters


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site() -> AsyncIterator[Site]:
    with reachable() as directory:
        async with (
            cluster(directory / "postgres", max_connections="30") as postgres,
            proxy(postgres.port) as line,
            house(f"postgresql://postgres@127.0.0.1:{line.port}/postgres") as services,
        ):
            yield Site(postgres, line, services)


async def test_an_immediate_restart_loses_nothing(site: Site) -> None:
    async with site.posters.at_work():
        for _ in range(2):
            await site.posters.until_acknowledged(40)
            await site.postgres.stop()
            await site.postgres.start()
        await site.posters.until_acknowledged(40)
    await site.house.check(site.postgres.url())


@pytest.mark.parametrize("way", Way)
async def test_lost_connections_lose_nothing(site: Site, way: Way) -> None:
    """Cut in the middle of whatever is under way, and half closed."""
    async with site.posters.at_work():
        for piece in range(1, 60, 7):
            site.line.cut_at(way, piece)
            await site.posters.until_acknowledged(10)
        site.line.end(way)
        await site.posters.until_acknowledged(10)
    await site.house.check(site.postgres.url())


async def test_a_database_that_refuses_connections_is_found_again(site: Site) -> None:
    async with site.posters.at_work():
        site.line.refuse()
        await site.posters.until_refused("the database cannot be reached")
        await site.line.listen()
        await site.posters.until_acknowledged(40)
    await site.house.check(site.postgres.url())


async def test_others_may_use_up_all_connections_for_a_while(site: Site) -> None:
    async with site.posters.at_work():
        async with AsyncExitStack() as others:
            site.line.refuse()
            with suppress(asyncpg.TooManyConnectionsError):
                while True:
                    await others.enter_async_context(connected(site.postgres.url()))
            await site.line.listen()
            await site.posters.until_refused("the database is busy or about to stop")
        await site.posters.until_acknowledged(40)
    await site.house.check(site.postgres.url())


async def test_a_session_whose_row_somebody_holds_delays_no_other(site: Site) -> None:
    """The holder is frozen: it neither goes on nor away."""
    held, *free = site.posters.session_ids
    async with (
        replace(site.posters, session_ids=[held]).at_work(),
        connected(site.postgres.url()) as holder,
        holder.transaction(),
    ):
        await holder.execute("SELECT FROM sessions WHERE session_id = $1 FOR UPDATE", held)
        with frozen(holder.get_server_pid()):
            async with replace(site.posters, session_ids=free).at_work():
                await site.posters.until_acknowledged(60)
    await site.house.check(site.postgres.url())


async def test_a_full_disk_is_told_and_nothing_has_to_be_started_again_when_there_is_room(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with reachable() as directory, small_disk(directory / "disk", mebibytes=256) as disk:
        async with (
            cluster(disk.path / "postgres") as postgres,
            house(postgres.url()) as services,
        ):
            async with services.posters.at_work():
                await services.posters.until_acknowledged(20)
                with disk.full():
                    await services.posters.until_refused("the database is busy or about to stop")
                await services.posters.until_acknowledged(40)
            await services.check(postgres.url())
    assert '"error": "DiskFullError"' in capfd.readouterr().err


async def test_a_failover_loses_nothing() -> None:
    """What the standby does not have yet when the primary dies was not acknowledged."""
    with reachable() as directory:
        async with (
            cluster(directory / "primary", synchronous_standby_names="standby") as primary,
            primary.standby(directory / "standby") as standby,
            house(primary.url(standby, options="target_session_attrs=read-write"), replicas=2) as services,
        ):
            async with services.posters.at_work():
                await services.posters.until_acknowledged(40)
                async with connected(standby.url()) as observer:
                    receiver = await observer.fetchval("SELECT pid FROM pg_stat_wal_receiver")
                with frozen(receiver):
                    await until_commits_wait(primary)
                    primary.kill()
                await standby.promote()
                await services.posters.until_acknowledged(40)
            await services.check(standby.url())


async def until_commits_wait(primary: Cluster) -> None:
    """For the standby."""
    async with connected(primary.url()) as observer:

        async def waits() -> bool:
            return bool(await observer.fetch("SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep'"))

        await until(waits)
