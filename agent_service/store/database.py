"""Connections to PostgreSQL, and the schema brought up."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

import asyncpg
import structlog
from sqlalchemy import NullPool, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as NoConnectionInTime
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from agent_service.errors import Unavailable
from agent_service.settings import SettingsError
from agent_service.store import schema
from agent_service.store.servers import Own, Servers

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Pool = asyncpg.Pool[asyncpg.Record]
    Hot = Own | PoolConnectionProxy[asyncpg.Record]
else:
    Pool = asyncpg.Pool
    Hot = asyncpg.Connection

# The statements of the pool look up by key, whatever the values are. Left to itself the planner settles on
# walks over whole tables, which are best while the tables are small and nobody has counted their rows; in
# parallel, also later; and it plans some statements anew each time.
_KEYED = {
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "max_parallel_workers_per_gather": "0",
    "jit": "off",
    "plan_cache_mode": "force_generic_plan",
}
OLDEST_POSTGRESQL = 16
# Longer than the server's own limits, which do not reach a client whose connection was silently cut.
COMMAND_SECONDS = 15.0
# Any number will do that nothing else in the database uses.
_MIGRATION_LOCK = 7_283_941_650_118

_log = structlog.get_logger(__name__)


class Database:
    """One pool for the statements that must be fast, an engine for the rest."""

    def __init__(self, servers: Servers, pool: Pool, engine: AsyncEngine) -> None:
        self._servers, self._pool, self.engine = servers, pool, engine

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Hot]:
        """The driver's own connection, for prepared statements. Raises Unavailable where there is none, and
        where one is lost: then nobody knows whether the last write happened."""
        with translated():
            async with self._pool.acquire() as connection:
                try:
                    yield connection
                except (OSError, asyncpg.PostgresConnectionError, asyncpg.ReadOnlySQLTransactionError):
                    # The others may well lead to the same server, which is gone or no longer the primary.
                    await self._pool.expire_connections()
                    connection.terminate()
                    raise

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Hot]:
        """A connection with a transaction around what is done with it."""
        async with self.connection() as connection, connection.transaction():
            yield connection

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        """A transaction for statements that need not be fast. Raises Unavailable."""
        with translated(), _unwrapped():
            async with self.engine.begin() as connection:
                yield connection

    async def connect(self, command_seconds: float | None = None) -> Own:
        """A connection of one's own, outside of the pool."""
        return await self._servers.connect(command_seconds)


@contextmanager
def translated() -> Iterator[None]:
    """The driver's errors that come and go, of connections, time limits and load, as Unavailable."""
    try:
        yield
    except asyncpg.DataError as error:
        # A mistake in this code, though the driver counts it among the errors of its interface. It quotes the
        # value, and values are content, which is not logged.
        error.args = (str(error).partition(":")[0],)
        raise
    except asyncpg.IntegrityConstraintViolationError as error:
        # It quotes the row, and rows hold content, which is not logged.
        error.detail = None
        raise
    except (
        OSError,
        asyncpg.InterfaceError,
        asyncpg.InternalClientError,
        asyncpg.PostgresConnectionError,
    ) as error:
        raise _unavailable("the database cannot be reached", error) from error
    except (
        # Of a server in recovery or no longer the primary, out of something, or about to stop.
        asyncpg.InvalidTransactionStateError,
        asyncpg.InvalidAuthorizationSpecificationError,
        asyncpg.PostgresSystemError,
        asyncpg.LockNotAvailableError,
        asyncpg.OperatorInterventionError,
        asyncpg.InsufficientResourcesError,
        asyncpg.TransactionRollbackError,
    ) as error:
        raise _unavailable("the database is busy or about to stop", error) from error


@contextmanager
def _unwrapped() -> Iterator[None]:
    """The driver's errors where the library would raise its own."""
    try:
        yield
    except IntegrityError:
        raise
    except DBAPIError as error:
        # Behind the library's error and its adapter's stands the driver's, which says what it was.
        raise (error.orig and error.orig.__cause__) or error from error
    except NoConnectionInTime as error:
        raise TimeoutError from error


def _unavailable(text: str, error: Exception) -> Unavailable | asyncio.CancelledError:
    """Callers need not know what exactly it is, but whoever looks after the database must.

    A driver that loses a connection while its task is cancelled tells of the connection only, and who has
    cancelled waits for ever.
    """
    task = asyncio.current_task()
    if task and task.cancelling():
        return asyncio.CancelledError()
    _log.warning("database unavailable", error=type(error).__name__)
    return Unavailable(text)


@asynccontextmanager
async def open_database(url: str, pool_size: int = 10) -> AsyncIterator[Database]:
    """Open and check the database at a URL, which goes to the driver unchanged.

    Raises SettingsError where it cannot be had, or is set up so that an acknowledgement would be a lie.
    """
    servers = Servers(url)
    engine = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=lambda: servers.connect(COMMAND_SECONDS),
        pool_size=4,
        pool_pre_ping=True,
        hide_parameters=True,
    )
    async with _pool(servers, pool_size) as pool:
        try:
            await _check(pool)
            yield Database(servers, pool, engine)
        finally:
            await engine.dispose()


def _pool(servers: Servers, size: int) -> Pool:
    return asyncpg.create_pool(
        # Of what the pool would have the driver do, all is as the driver does by itself.
        connect=lambda *_, **__: servers.connect(COMMAND_SECONDS, **_KEYED),
        # With a least number it would try to have that again and again, and tell of it in its own words.
        min_size=0,
        max_size=size,
        init=_speak_json,
        reset=_keep,
    )


async def _check(pool: Pool) -> None:
    try:
        async with pool.acquire() as connection:
            version = connection.get_server_version().major
            settings = {row["name"]: row["setting"] for row in await connection.fetch("SHOW ALL")}
    except (
        OSError,
        ValueError,
        asyncpg.PostgresError,
        asyncpg.InterfaceError,
        asyncpg.InternalClientError,
    ) as error:
        raise SettingsError(f"SPARK_DATABASE_URL: the database cannot be opened: {error}") from error
    if version < OLDEST_POSTGRESQL:
        raise SettingsError(f"SPARK_DATABASE_URL: PostgreSQL {OLDEST_POSTGRESQL} or newer is needed")
    if settings["transaction_read_only"] == "on":
        raise SettingsError(
            "SPARK_DATABASE_URL: the server takes no writes, as a standby does; name the primary, or both "
            "with target_session_attrs=read-write"
        )
    if settings["synchronous_commit"] == "off":
        raise SettingsError(
            "SPARK_DATABASE_URL: synchronous_commit is off, so that an acknowledged commit may be lost; "
            "set it to on, or higher, for this database or user"
        )


async def migrate(database: Database) -> None:
    """Bring the schema up. Safe when several processes start at once: the first one does it.

    Raises SettingsError for a schema of a newer release that this one does not fit, and where the database is
    lost meanwhile.
    """
    # On a connection without a limit of time: a migration takes as long as it takes.
    engine = create_async_engine("postgresql+asyncpg://", async_creator=database.connect, poolclass=NullPool)
    try:
        with translated(), _unwrapped():
            async with engine.begin() as connection:
                await connection.execute(text("SET LOCAL lock_timeout = 0"))
                await connection.execute(text("SET LOCAL statement_timeout = 0"))
                await connection.execute(text(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})"))
                await connection.run_sync(schema.bring_up)
    except Unavailable as error:
        raise SettingsError(f"SPARK_DATABASE_URL: the schema cannot be brought up: {error}") from error


async def _speak_json(connection: Own) -> None:
    await connection.set_type_codec("jsonb", schema="pg_catalog", encoder=json.dumps, decoder=json.loads)


async def _keep(_: object) -> None:
    """Give a connection back as it is: nothing here leaves state on one, and a reset costs a round trip."""
