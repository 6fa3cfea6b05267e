import asyncio

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text

from agent_service.errors import Unavailable
from agent_service.settings import SettingsError
from agent_service.store.database import Database, migrate, open_database, translated
from agent_service.store.tables import metadata


async def test_the_migrations_make_the_schema_of_the_tables(database: Database) -> None:
    def differences(connection: Connection) -> list[object]:
        return list(compare_metadata(MigrationContext.configure(connection), metadata))

    async with database.engine.begin() as connection:
        assert await connection.run_sync(differences) == []


async def test_several_processes_may_bring_the_schema_up_at_once(database_url: str) -> None:
    async with open_database(database_url) as database, database.connection() as connection:
        await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    async with open_database(database_url) as one, open_database(database_url) as two:
        await asyncio.gather(migrate(one), migrate(two), migrate(one))
        async with two.connection() as connection:
            assert await connection.fetchval("SELECT count(*) FROM sessions") == 0


async def test_a_database_that_may_lose_commits_is_refused(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    name = await connection.fetchval("SELECT current_database()")
    await connection.execute(f'ALTER DATABASE "{name}" SET synchronous_commit = off')
    await connection.close()
    with pytest.raises(SettingsError, match="synchronous_commit"):
        async with open_database(database_url):
            pass


async def test_every_connection_has_time_limits(database: Database) -> None:
    async with database.connection() as connection:
        settings = {row["name"]: row["setting"] for row in await connection.fetch("SHOW ALL")}
    for name in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"):
        assert settings[name] not in ("0", "")


# By PostgreSQL's own names.
PASSING = [
    "serialization_failure",
    "deadlock_detected",
    "lock_not_available",
    "query_canceled",
    "admin_shutdown",
    "cannot_connect_now",
    "too_many_connections",
    "disk_full",
    "out_of_memory",
    "io_error",
    "read_only_sql_transaction",
]


@pytest.mark.parametrize("condition", PASSING)
async def test_a_failure_that_passes_is_told_as_unavailable_in_no_words_of_the_database(
    database: Database, condition: str
) -> None:
    fail = f"DO $$ BEGIN RAISE EXCEPTION 'secret' USING ERRCODE = '{condition}'; END $$"

    async def by_pool() -> None:
        async with database.transaction() as connection:
            await connection.execute(fail)

    async def by_engine() -> None:
        async with database.begin() as connection:
            await connection.execute(text(fail))

    for failing in (by_pool, by_engine):
        with pytest.raises(Unavailable) as caught:
            await failing()
        assert "secret" not in str(caught.value)
    async with database.connection() as connection:
        assert await connection.fetchval("SELECT 1") == 1


async def test_a_lost_connection_is_told_as_unavailable(database: Database) -> None:
    async def on_a_killed_connection() -> None:
        async with database.transaction() as connection:
            pid = await connection.fetchval("SELECT pg_backend_pid()")
            killer = await database.connect()
            await killer.execute("SELECT pg_terminate_backend($1)", pid)
            await killer.close()
            await connection.execute("SELECT 1")

    with pytest.raises(Unavailable):
        await on_a_killed_connection()


async def test_a_server_that_does_not_answer_any_more_is_left_by_all_connections(database: Database) -> None:
    async def backends() -> set[int]:
        async with database.connection() as one, database.connection() as other:
            return {await of.fetchval("SELECT pg_backend_pid()") for of in (one, other)}

    before = await backends()
    with pytest.raises(Unavailable):
        async with database.connection() as connection:
            await connection.execute("SELECT pg_sleep(3600)", timeout=0.1)
    assert not before & await backends()


async def test_a_server_that_takes_no_writes_any_more_is_left_by_all_connections(database: Database) -> None:
    async with database.connection() as connection:
        await connection.execute("SET default_transaction_read_only = on")
    with pytest.raises(Unavailable):
        async with database.connection() as connection:
            await connection.execute("CREATE TABLE written ()")
    async with database.connection() as connection:
        await connection.execute("CREATE TABLE written ()")


async def test_a_cancellation_is_not_lost_with_the_connection() -> None:
    """Of both the driver tells the second only."""

    async def lost_while_cancelled() -> None:
        with translated():
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise asyncpg.InterfaceError("connection is closed") from None

    task = asyncio.create_task(lost_while_cancelled())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
