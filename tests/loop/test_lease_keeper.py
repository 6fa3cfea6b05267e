"""The lease of a replica whose event loop hangs. What else befalls leases is in test_dispatcher.py."""

import asyncio
import threading
from datetime import datetime

from agent_service.loop.lease_keeper import LeaseKeeper
from tests.support import Store, until

LEASE_SECONDS = 1

_IS_OVER = "SELECT bool_and(lease_until <= clock_timestamp()) FROM replicas"
_IS_RENEWED = "SELECT bool_or(lease_until > $1) FROM replicas"
_NEWEST = "SELECT max(lease_until) FROM replicas"


def hang_until(store: Store, condition: str, *values: object) -> bool:
    """Let the event loop that calls this stand still until the database says so; False if it does not."""
    seen: list[bool] = []

    async def watch() -> None:
        async with store.own_connection() as connection:

            async def is_so() -> bool:
                return bool(await connection.fetchval(condition, *values))

            await until(is_so, seconds=20 * LEASE_SECONDS)
            seen.append(True)

    thread = threading.Thread(target=lambda: asyncio.run(watch()))
    thread.start()
    thread.join()
    return bool(seen)


async def test_a_replica_whose_event_loop_hangs_loses_its_lease_and_comes_back_as_another(
    store: Store,
) -> None:
    """Naive: renew as long as the thread that renews is well."""
    async with LeaseKeeper(store.database, "127.0.0.1:1", LEASE_SECONDS) as keeper:
        before = keeper.replica
        assert before
        assert hang_until(store, _IS_OVER)
        assert keeper.replica is None

        async def is_back() -> bool:
            return keeper.replica not in (None, before)

        await until(is_back)


async def test_an_event_loop_that_is_only_busy_keeps_its_lease(store: Store) -> None:
    async with LeaseKeeper(store.database, "127.0.0.1:1", LEASE_SECONDS) as keeper:
        before = keeper.replica
        for _ in range(6):
            async with store.own_connection() as connection:
                renewed: datetime = await connection.fetchval(_NEWEST)
            assert hang_until(store, _IS_RENEWED, renewed)
        assert keeper.replica == before
