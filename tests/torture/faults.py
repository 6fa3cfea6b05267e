"""What can befall a fleet: each a context in which it is so, and after which it no longer is."""

from collections.abc import AsyncIterator, Iterable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

from tests.e2e.databases import Connection, connected
from tests.servers.postgres import frozen as frozen_backend
from tests.servers.proxy import Proxy, Way
from tests.support import until
from tests.torture.fleet import Helper, Member
from tests.torture.model import ModelServer
from tests.torture.pair import Pair

# Backwards while it lasts, forwards at its end.
SKEW_SECONDS = -3600

_SKEW = {
    "PYTHONPATH": str(Path(__file__).parent / "skew"),
    "TORTURE_SKEW_SECONDS": str(SKEW_SECONDS),
}
_LISTENERS = "SELECT pid FROM pg_stat_activity WHERE usename = $1 AND query ILIKE 'LISTEN %'"


@asynccontextmanager
async def killed(service: Member) -> AsyncIterator[None]:
    await service.kill()
    yield
    await service.start()


@asynccontextmanager
async def frozen(service: Member) -> AsyncIterator[None]:
    service.service.freeze()
    yield
    service.service.thaw()


@asynccontextmanager
async def skewed(service: Member) -> AsyncIterator[None]:
    """It runs with another idea of what time it is."""
    await service.kill()
    await service.start(**_SKEW)
    yield
    await service.kill()
    await service.start()


@asynccontextmanager
async def down(server: ModelServer | Helper) -> AsyncIterator[None]:
    await server.stop()
    yield
    await server.start()


@asynccontextmanager
async def cut(line: Iterable[Proxy], way: Way) -> AsyncIterator[None]:
    """When the next piece is to go this way, and again: a question is lost, or the answer to it."""
    for proxy in line:
        proxy.cut_at(way, 1)
    yield
    for proxy in line:
        proxy.spare()
        proxy.cut()


@asynccontextmanager
async def held(line: Iterable[Proxy]) -> AsyncIterator[None]:
    for proxy in line:
        proxy.hold()
    yield
    for proxy in line:
        proxy.flow()


@asynccontextmanager
async def half_closed(line: Iterable[Proxy], way: Way) -> AsyncIterator[None]:
    for proxy in line:
        proxy.end(way)
    yield
    for proxy in line:
        proxy.cut()


@asynccontextmanager
async def crashed(postgres: Pair) -> AsyncIterator[None]:
    await postgres.primary.stop()
    yield
    await postgres.primary.start()
    await postgres.until_copied()


@asynccontextmanager
async def failed_over(postgres: Pair) -> AsyncIterator[None]:
    await postgres.fail_over()
    yield
    await postgres.rebuild()


@asynccontextmanager
async def deaf(postgres: Pair, replica: str) -> AsyncIterator[None]:
    """Nothing reaches its listener, whose connection shows no sign of it. What was sent is lost."""
    async with connected(postgres.url) as connection:
        with ExitStack() as stack:
            backends = await _listeners(connection, replica)
            for backend in backends:
                stack.enter_context(frozen_backend(backend))
            yield
            await _terminate(connection, backends)


@asynccontextmanager
async def unheard(postgres: Pair, replica: str) -> AsyncIterator[None]:
    """The connection of its listener is lost."""
    async with connected(postgres.url) as connection:
        await _terminate(connection, await _listeners(connection, replica))
    yield


async def _listeners(connection: Connection, replica: str) -> list[int]:
    async def there() -> bool:
        return bool(await connection.fetch(_LISTENERS, replica))

    await until(there)
    return [row["pid"] for row in await connection.fetch(_LISTENERS, replica)]


async def _terminate(connection: Connection, backends: list[int]) -> None:
    await connection.execute("SELECT pg_terminate_backend(pid) FROM unnest($1::int[]) AS pid", backends)
