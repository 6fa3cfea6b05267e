"""The schema brought up to this release, and a newer one met.

Releases run side by side while replicas are upgraded one by one. A migration therefore only adds what older
code need not know; one that takes something away comes a release later, and writes its own revision into
`schema_floor`: code that does not know that revision no longer fits the schema.
"""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, select

from agent_service.settings import SettingsError
from agent_service.store.tables import schema_floor

MIGRATIONS = Path(__file__).parent / "migrations"


def bring_up(connection: Connection) -> None:
    """Run the migrations that are missing; leave alone a newer schema that this code fits.

    Raises SettingsError for one that it does not fit.
    """
    config = alembic_config(connection)
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    current = MigrationContext.configure(connection).get_current_revision()
    if current in known | {None}:
        command.upgrade(config, "head")
    elif floor(connection) not in known:
        raise SettingsError(
            f"SPARK_DATABASE_URL: the schema of this database, {current}, is not known to this release and "
            "does not fit it; start a newer release"
        )


def floor(connection: Connection) -> str | None:
    """The oldest revision whose code still fits the schema, where the schema says so."""
    if not inspect(connection).has_table(schema_floor.name):
        return None
    return connection.scalar(select(schema_floor.c.revision))


def alembic_config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    return config
