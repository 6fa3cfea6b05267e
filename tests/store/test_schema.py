"""Releases side by side: what a migration may do, and older code on a newer schema."""

from collections.abc import Callable, Mapping

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect

from agent_service.settings import SettingsError
from agent_service.store.database import Database, migrate
from agent_service.store.schema import alembic_config, floor

NEWER = "9999"


def constraints(connection: Connection) -> Mapping[str, str]:
    """What an older release relies on or has to obey, by name."""
    found, inspector = {}, inspect(connection)
    for table in inspector.get_table_names():
        for column in inspector.get_columns(table):
            needed = not column["nullable"] and column["default"] is None
            found[f"{table}.{column['name']}"] = f"{column['type']}{' needed' * needed}"
        for check in inspector.get_check_constraints(table):
            found[f"{table} check {check['name']}"] = "needed"
        for index in inspector.get_indexes(table):
            if index["unique"]:
                found[f"{table} unique {index['name']}"] = "needed"
    return found


def broken(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """What code of the schema before misses, or does not know that it has to obey, in the schema after."""
    tables = {name.split(".")[0] for name in before if "." in name}
    gone = [name for name, is_ in before.items() if "." in name and after.get(name, "gone") != is_]
    new = [name for name in after.keys() - before if name.replace(".", " ").split()[0] in tables]
    return gone + [name for name in new if after[name].endswith("needed")]


async def test_a_migration_only_adds_what_older_code_need_not_know_or_says_so(database: Database) -> None:
    """Naive: rename a column in one step."""

    def one_by_one(connection: Connection) -> list[str]:
        config = alembic_config(connection)
        scripts = list(ScriptDirectory.from_config(config).walk_revisions())
        found, before = [], None
        for revision in [script.revision for script in reversed(scripts)]:
            command.upgrade(config, revision)
            after = constraints(connection)
            if before is not None and floor(connection) != revision:
                found += [f"{revision}: {what}" for what in broken(before, after)]
            before = after
        return found

    async with database.engine.begin() as connection:
        await connection.execute(sa.text("DROP SCHEMA public CASCADE"))
        await connection.execute(sa.text("CREATE SCHEMA public"))
        assert await connection.run_sync(one_by_one) == []


def renamed(change: Operations) -> None:
    change.alter_column("sessions", "goal", new_column_name="purpose")


def dropped(change: Operations) -> None:
    change.drop_column("messages", "hops")


def of_another_type(change: Operations) -> None:
    change.alter_column("messages", "hops", type_=sa.BigInteger())


def must_be_written(change: Operations) -> None:
    change.add_column("replicas", sa.Column("zone", sa.Text(), nullable=False))


def must_be_obeyed(change: Operations) -> None:
    change.create_check_constraint("sessions_goal", "sessions", "goal <> ''")


def must_be_unique(change: Operations) -> None:
    change.create_index("sessions_goal", "sessions", ["goal"], unique=True)


def added(change: Operations) -> None:
    change.add_column("replicas", sa.Column("zone", sa.Text(), server_default="", nullable=False))
    change.add_column("replicas", sa.Column("rack", sa.Text()))
    change.create_table("zones", sa.Column("zone", sa.Text(), primary_key=True))
    change.create_index("replicas_zone", "replicas", ["zone"])


@pytest.mark.parametrize(
    ("change", "breaks"),
    [
        (renamed, ["sessions.goal", "sessions.purpose"]),
        (dropped, ["messages.hops"]),
        (of_another_type, ["messages.hops"]),
        (must_be_written, ["replicas.zone"]),
        (must_be_obeyed, ["sessions check sessions_goal"]),
        (must_be_unique, ["sessions unique sessions_goal"]),
        (added, []),
    ],
)
async def test_a_migration_that_older_code_does_not_bear_is_found(
    database: Database, change: Callable[[Operations], None], breaks: list[str]
) -> None:
    def changed(connection: Connection) -> list[str]:
        before = constraints(connection)
        change(Operations(MigrationContext.configure(connection)))
        return broken(before, constraints(connection))

    async with database.engine.begin() as connection:
        assert await connection.run_sync(changed) == breaks


async def test_a_newer_schema_that_this_release_fits_is_left_alone(database: Database) -> None:
    await _write(database, "UPDATE alembic_version SET version_num = $1", NEWER)
    await migrate(database)
    async with database.connection() as connection:
        assert await connection.fetchval("SELECT version_num FROM alembic_version") == NEWER


async def test_a_newer_schema_that_this_release_does_not_fit_is_refused(database: Database) -> None:
    await _write(database, "UPDATE alembic_version SET version_num = $1", NEWER)
    await _write(database, "UPDATE schema_floor SET revision = $1", NEWER)
    with pytest.raises(SettingsError, match=r"SPARK_DATABASE_URL: .* 9999, .* does not fit"):
        await migrate(database)


async def test_the_schema_of_another_program_is_refused(database: Database) -> None:
    await _write(database, "UPDATE alembic_version SET version_num = $1", "5c3a51b0d7e2")
    await _write(database, "DROP TABLE schema_floor")
    with pytest.raises(SettingsError, match="5c3a51b0d7e2"):
        await migrate(database)


async def _write(database: Database, statement: str, *values: object) -> None:
    async with database.connection() as connection:
        await connection.execute(statement, *values)
