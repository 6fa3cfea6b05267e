"""What tests do with a database behind the services' back."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from uuid import uuid4

import asyncpg

from tests.conftest import Postgres
from tests.support import until

_HOLD = """
CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NEW; END $$;
CREATE TRIGGER hold BEFORE INSERT ON messages
FOR EACH ROW WHEN (NEW.type = 'tool_response') EXECUTE FUNCTION hold()"""

_WAITING = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"

Connection = asyncpg.Connection


async def new_database(postgres: Postgres) -> str:
    """The URL of an empty one, which goes away with its server."""
    name = f"e2e_{uuid4().hex}"
    async with connected(postgres.url) as connection:
        await connection.execute(f'CREATE DATABASE "{name}"')
    return postgres.database_url(name)


@asynccontextmanager
async def connected(database_url: str) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(database_url)
    try:
        yield connection
    finally:
        await connection.close()


async def holder_address(connection: Connection, session_id: str) -> str:
    """Where the replica that holds a session listens."""
    return await connection.fetchval(
        "SELECT address FROM replicas JOIN sessions ON lease_owner = replica_id WHERE session_id = $1",
        session_id,
    )


async def until_registered_again(connection: Connection, address: str) -> None:
    """Wait for the second incarnation of a replica."""

    async def registered_again() -> bool:
        incarnations = await connection.fetch("SELECT FROM replicas WHERE address = $1", address)
        return len(incarnations) == 2

    await until(registered_again)


@asynccontextmanager
async def before_tool_responses(database_url: str) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Nobody gets a tool response written. Gives a way to wait until somebody tries; that write is lost."""
    async with connected(database_url) as connection:

        async def somebody_tries() -> bool:
            return bool(await connection.fetch(_WAITING))

        await connection.execute(_HOLD)
        await connection.execute("SELECT pg_advisory_lock(1)")
        yield lambda: until(somebody_tries)
        # A backend that waits does not notice that its client was killed, and would commit in the end.
        await connection.execute(f"SELECT pg_terminate_backend(pid) FROM ({_WAITING}) AS waiting")
        await connection.execute("DROP FUNCTION hold CASCADE")
