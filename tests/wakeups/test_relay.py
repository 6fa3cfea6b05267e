"""Hints between replicas, over a real PostgreSQL. No wait in here ends by a poll."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest
from structlog.testing import capture_logs

from agent_service.domain import SessionId, new_id
from agent_service.store.database import Database, open_database
from agent_service.store.embedded import embedded_postgres
from agent_service.store.servers import Own
from agent_service.wakeups.hints import read
from agent_service.wakeups.relay import CHANNEL, MAX_GATHERED, Notifier
from tests.conftest import Postgres
from tests.support import until
from tests.wakeups.replicas import LISTENERS, NOTIFIERS, cut, own_connection, replica, silent, until_backends
from tests.wakeups.watches import HOURS, hears, wakes

SESSION, ANOTHER, THIRD = (SessionId(new_id()) for _ in range(3))


@asynccontextmanager
async def eavesdropping(database: Database) -> AsyncIterator[list[str]]:
    """All payloads that come on the channel."""
    payloads: list[str] = []
    async with own_connection(database) as connection:
        await connection.add_listener(CHANNEL, lambda *notification: payloads.append(notification[-1]))
        yield payloads


def sessions_in(payloads: list[str]) -> list[SessionId]:
    return [
        session_id for payload in payloads if (hints := read(payload)) for session_id in hints.session_ids
    ]


async def until_heard(payloads: list[str], count: int) -> None:
    async def heard() -> bool:
        return len(sessions_in(payloads)) >= count

    await until(heard)


def some_sessions(count: int) -> list[SessionId]:
    return [SessionId(uuid4()) for _ in range(count)]


async def test_a_hint_is_heard_by_whoever_watches_at_another_replica(database: Database) -> None:
    async with replica(database) as here, replica(database) as there, replica(database) as elsewhere:
        with (
            there.watch(SESSION) as watch,
            elsewhere.watch(SESSION) as other,
            there.watch(ANOTHER) as unconcerned,
        ):
            here.hint(SESSION)
            await hears(watch)
            await hears(other)
            assert not await wakes(unconcerned)


async def test_ones_own_hints_are_told_once(database: Database) -> None:
    async with replica(database) as here, replica(database) as there:
        with here.watch(SESSION) as own, there.watch(SESSION) as theirs, here.watch(ANOTHER) as answer:
            here.hint(SESSION)
            assert await wakes(own)
            await hears(theirs)
            there.hint(ANOTHER)
            # It was sent after the one from here, which is thus here again too.
            await hears(answer)
            assert not await wakes(own)


async def test_a_session_is_claimed_only_where_its_hint_comes_from(database: Database) -> None:
    async with replica(database) as here, replica(database) as there:
        with there.watch(SESSION) as watch:
            here.hint(SESSION)
            await hears(watch)
    assert here.offered == [None, SESSION]
    assert there.offered == [None]


async def test_what_a_stopping_replica_hands_over_is_for_the_others_to_claim(database: Database) -> None:
    async with replica(database) as here, replica(database) as there:
        here.stopping.set()
        with there.watch(SESSION) as watch:
            here.hint(SESSION)
            await hears(watch)
    assert there.offered == [None, SESSION]


async def test_the_last_hints_are_sent_before_a_replica_is_gone(database: Database) -> None:
    async with replica(database) as there:
        with there.watch(SESSION) as watch:
            async with replica(database) as here:
                here.hint(SESSION)
            await hears(watch)


async def test_hints_that_come_together_travel_together_and_once_each(database: Database) -> None:
    session_ids = some_sessions(10_000)
    async with replica(database) as here, eavesdropping(database) as payloads:
        for _ in range(3):
            for session_id in session_ids:
                here.hint(session_id)
        await until_heard(payloads, len(session_ids))
    assert sorted(sessions_in(payloads)) == sorted(session_ids)
    assert len(payloads) < 60


async def test_a_notifier_without_a_connection_remembers_only_so_many(database: Database) -> None:
    notifier = Notifier(uuid4(), asyncio.Event(), HOURS)
    for session_id in some_sessions(MAX_GATHERED + 3):
        notifier.gather(session_id)
    notifier.finish()
    async with own_connection(database) as connection, eavesdropping(database) as payloads:
        await notifier.serve(connection)
        await until_heard(payloads, MAX_GATHERED)
    assert len(sessions_in(payloads)) == MAX_GATHERED


async def test_whatever_else_is_sent_on_the_channel_costs_nothing(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    async with replica(database) as here, replica(database) as there:
        listeners = await until_backends(database, LISTENERS, 2)
        async with database.connection() as connection:
            for payload in ("", "wake up", "{}", "[" * 7000, '{"session_ids": "all"}', "🜁" * 1900):
                await connection.execute("SELECT pg_notify($1, $2)", CHANNEL, payload)
        with there.watch(SESSION) as watch:
            here.hint(SESSION)
            await hears(watch)
        assert await until_backends(database, LISTENERS, 2) == listeners
    assert there.offered == [None]
    assert caplog.records == []


async def test_a_listener_cut_off_again_and_again_looks_each_time_at_what_it_may_have_missed(
    database: Database,
) -> None:
    async with replica(database) as here, replica(database) as there:
        with there.watch(SESSION) as watch:
            for cuts in range(1, 6):
                await cut(database, await until_backends(database, LISTENERS, 2))
                here.hint(SESSION)
                await there.until_scans(1 + cuts)
                await hears(watch)
        with there.watch(SESSION) as watch:
            here.hint(SESSION)
            await hears(watch)


async def test_a_notifier_that_was_cut_off_sends_what_has_gathered(database: Database) -> None:
    async with replica(database) as here, replica(database) as there:
        with there.watch(SESSION) as first, there.watch(ANOTHER) as second, there.watch(THIRD) as third:
            here.hint(SESSION)
            await hears(first)
            await cut(database, await until_backends(database, NOTIFIERS, 1))
            here.hint(ANOTHER)
            here.hint(THIRD)
            await hears(second)
            await hears(third)
    assert there.offered == [None]


async def test_a_listener_to_which_nothing_comes_any_more_takes_another_connection(
    database: Database,
) -> None:
    with capture_logs() as logs:
        async with replica(database) as here, replica(database, beat_seconds=0.05) as there:
            here.hint(ANOTHER)
            pids = await until_backends(database, LISTENERS, 2)
            with silent(pids), there.watch(SESSION) as watch:
                await there.until_scans(2)
                await hears(watch)
                here.hint(SESSION)
                await hears(watch)
    assert [log["event"] for log in logs] == ["hints not heard"]
    assert "direct connection" in logs[0]["error"]


async def test_a_listener_that_hears_itself_stays_where_it_is(database: Database) -> None:
    async with replica(database, beat_seconds=0.5) as there:
        listeners = await until_backends(database, LISTENERS, 1)
        async with eavesdropping(database) as beats:

            async def longer_than_silence_may_last() -> bool:
                return len(beats) > 4

            await until(longer_than_silence_may_last)
        assert await until_backends(database, LISTENERS, 1) == listeners
    assert there.offered == [None]


class Watched(Database):
    """Counts the connections that are asked for."""

    def __init__(self, whole: Database) -> None:
        self._whole, self.attempts = whole, 0

    async def connect(self, command_seconds: float | None = None) -> Own:
        self.attempts += 1
        return await self._whole.connect(command_seconds)


@asynccontextmanager
async def closed(database: Database, postgres: Postgres) -> AsyncIterator[None]:
    """Nobody gets a new connection."""
    async with database.connection() as connection:
        name = await connection.fetchval("SELECT current_database()")
    administrator = await asyncpg.connect(postgres.url)
    try:
        await administrator.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        yield
        await administrator.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
    finally:
        await administrator.close()


async def test_a_replica_without_connections_says_so_once_and_hears_when_it_has_them_again(
    database: Database, postgres: Postgres
) -> None:
    watched = Watched(database)
    async with replica(watched) as here, replica(database) as there:
        here.hint(ANOTHER)
        with capture_logs() as logs, there.watch(SESSION) as watch:
            async with closed(database, postgres):
                await cut(database, await until_backends(database, NOTIFIERS, 1))
                await cut(database, await until_backends(database, LISTENERS, 2))
                before = watched.attempts
                here.hint(THIRD)

                async def tried_often() -> bool:
                    return watched.attempts >= before + 6

                await until(tried_often)
            await there.until_scans(2)
            await hears(watch)
            here.hint(SESSION)
            await hears(watch)
    told = [log["event"] for log in logs]
    assert sorted(told) == ["hints not heard", "hints not heard", "hints not sent"]


async def test_a_replica_without_connections_can_stop(database: Database, postgres: Postgres) -> None:
    async with AsyncExitStack() as stack, replica(database) as here:
        here.hint(ANOTHER)
        await until_backends(database, NOTIFIERS, 1)
        await stack.enter_async_context(closed(database, postgres))
        await cut(database, await until_backends(database, NOTIFIERS, 1))
        here.hint(SESSION)


@pytest.fixture
async def crowded(directory: Path) -> AsyncIterator[Database]:
    """A database on a server of its own, whose queue of notifications is short."""
    with embedded_postgres(directory) as url:
        connection = await asyncpg.connect(url)
        await connection.execute("ALTER SYSTEM SET max_notify_queue_pages = 64")
        await connection.close()
    with embedded_postgres(directory) as url:
        async with open_database(url) as database:
            yield database


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        yield Path(name)


async def fill_queue(database: Database) -> None:
    with suppress(asyncpg.ProgramLimitExceededError):
        async with own_connection(database) as connection:
            while True:
                await connection.execute("SELECT pg_notify('other', repeat('x', 7900))")


async def test_a_full_queue_of_notifications_delays_hints_and_breaks_nothing(crowded: Database) -> None:
    async with replica(crowded) as here, replica(crowded) as there, own_connection(crowded) as lagging:
        await lagging.execute(f"LISTEN {CHANNEL}")
        with there.watch(SESSION) as watch, capture_logs() as logs:
            async with lagging.transaction():
                await fill_queue(crowded)
                here.hint(SESSION)

                async def told() -> bool:
                    return bool(logs)

                await until(told)
                assert not await wakes(watch)
            await hears(watch)
    assert [log["event"] for log in logs] == ["hints not sent"]
