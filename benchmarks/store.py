"""Databases with Spark's tables, and sessions in them without a service."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

from agent_service.domain import NewSession, ReplicaId, SessionConfig, SessionId
from agent_service.store.database import Database, migrate, open_database
from agent_service.store.leases import register
from agent_service.store.sessions import Sessions
from agent_service.wakeups import Wakeups
from benchmarks.bench import Bench


@asynccontextmanager
async def new_store(bench: Bench, name: str) -> AsyncIterator[Database]:
    async with open_database(await bench.new_database(name)) as database:
        await migrate(database)
        yield database


async def new_sessions(database: Database, count: int, config: SessionConfig) -> list[SessionId]:
    sessions, new = Sessions(database, Wakeups()), NewSession("", "Keep the lamp.", config, {})
    return [(await sessions.create(new)).session.session_id for _ in range(count)]


async def registered(database: Database) -> ReplicaId:
    """A replica that holds its lease for as long as a benchmark takes."""
    replica, connection = ReplicaId(uuid4()), await database.connect()
    await register(connection, replica, "-", lease_seconds=3600)
    await connection.close()
    return replica
