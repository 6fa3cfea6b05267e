"""A real PostgreSQL for the run, and a fresh migrated database for each test that asks for one."""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest
import structlog
from hypothesis import settings

from agent_service.store.database import Database, migrate, open_database
from agent_service.store.embedded import embedded_postgres
from tests.support import Store, open_store


@dataclass(frozen=True)
class Postgres:
    """A server whose databases are addressed by URL."""

    url: str

    def database_url(self, name: str) -> str:
        return self.url.replace("/postgres?", f"/{name}?")


# As in the services: forks start PostgreSQL, without grpc's care.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

# For whoever has time: pytest --hypothesis-profile=long PATH, stopped by hand.
settings.register_profile("long", max_examples=100_000, deadline=None)

# In tests too a line is a fact, and a traceback is one without the values of everything in it.
structlog.configure(
    processors=[
        structlog.processors.add_log_level,
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(),
    ]
)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        Path(directory).chmod(0o755)
        with embedded_postgres(Path(directory)) as url:
            server = Postgres(url)
            asyncio.run(_make_template(server))
            yield server


async def _make_template(server: Postgres) -> None:
    await _administer(server, 'CREATE DATABASE "template_spark"')
    async with open_database(server.database_url("template_spark")) as database:
        await migrate(database)


async def _administer(server: Postgres, statement: str) -> None:
    connection = await asyncpg.connect(server.url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture
async def database_url(postgres: Postgres) -> AsyncIterator[str]:
    """A migrated database of the test's own."""
    name = f"test_{uuid4().hex}"
    await _administer(postgres, f'CREATE DATABASE "{name}" TEMPLATE "template_spark"')
    yield postgres.database_url(name)
    await _administer(postgres, f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with open_database(database_url) as opened:
        yield opened


@pytest.fixture
async def store(database: Database) -> AsyncIterator[Store]:
    async with open_store(database) as opened:
        yield opened
