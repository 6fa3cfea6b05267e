"""A primary and its standby, and which of them a URL leads to."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import asyncpg
import pytest
import pytest_asyncio

from agent_service.settings import SettingsError
from agent_service.store.database import open_database
from agent_service.store.servers import Servers
from tests.servers.postgres import Cluster, cluster, reachable
from tests.servers.proxy import proxy

WRITES = "target_session_attrs=read-write"

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass(frozen=True)
class Pair:
    primary: Cluster
    standby: Cluster


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair() -> AsyncIterator[Pair]:
    with reachable() as directory:
        async with (
            cluster(directory / "primary") as primary,
            primary.standby(directory / "standby") as standby,
        ):
            yield Pair(primary, standby)


async def is_standby(servers: Servers) -> bool:
    connection = await servers.connect(None)
    try:
        return bool(await connection.fetchval("SELECT pg_is_in_recovery()"))
    finally:
        await connection.close()


async def test_the_primary_is_found_wherever_it_stands_in_the_url(pair: Pair) -> None:
    for one, other in ((pair.primary, pair.standby), (pair.standby, pair.primary)):
        assert not await is_standby(Servers(one.url(other, options=WRITES)))


async def test_a_standby_is_refused_at_the_start(pair: Pair) -> None:
    for url in (pair.standby.url(), pair.standby.url(pair.primary)):
        with pytest.raises(SettingsError, match="SPARK_DATABASE_URL: the server takes no writes"):
            async with open_database(url):
                pass


async def test_a_url_of_standbys_alone_is_refused_at_the_start(pair: Pair) -> None:
    with pytest.raises(SettingsError, match="SPARK_DATABASE_URL: the database cannot be opened"):
        async with open_database(pair.standby.url(options=WRITES)):
            pass


async def test_a_server_that_has_vanished_leaves_time_for_the_next_and_is_asked_last_from_then_on(
    pair: Pair,
) -> None:
    async with proxy(pair.primary.port) as between:
        both = f"postgresql://postgres@127.0.0.1:{between.port},127.0.0.1:{pair.standby.port}/postgres"
        servers = Servers(both, connect_seconds=2)
        assert not await is_standby(servers)
        between.hold()
        assert await is_standby(servers)
        between.flow()
        assert await is_standby(servers)


async def test_when_no_server_answers_the_error_is_that_of_the_last(pair: Pair) -> None:
    async with proxy(1) as refusing:
        nobody = f"postgresql://postgres@127.0.0.1:{refusing.port},127.0.0.1:1/postgres"
        with pytest.raises(ConnectionRefusedError):
            await Servers(nobody).connect(None)
        with pytest.raises(asyncpg.TargetServerAttributeNotMatched):
            await Servers(pair.standby.url(options=WRITES)).connect(None)
