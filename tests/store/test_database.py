import asyncio

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection

from agent_service.errors import Unavailable
from agent_service.settings import SettingsError
from agent_service.store.database import Database, migrate, open_database
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
