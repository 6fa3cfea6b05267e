"""A session lived through by one process after the other, written down as a torture run is."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from itertools import pairwise
from pathlib import Path
from random import Random

from asyncpg import UndefinedTableError

from tests.e2e.databases import connected
from tests.torture.crash.life import Lives, lives
from tests.torture.crash.point import Point
from tests.torture.crash.story import MARK, Clients, Plot, Story
from tests.torture.database import dump, until_at_rest
from tests.torture.doors import Doors, doors
from tests.torture.fleet import tool_server
from tests.torture.followers import stream_all
from tests.torture.history import History, history
from tests.torture.model import ModelServer, model_server
from tests.torture.script import CONTEXT_TOKENS
from tests.torture.town import Town

# A busy machine does not make anybody lose a lease.
LEASE_SECONDS, POLL_SECONDS, MODEL_SECONDS = 3.0, 0.1, 1.0
PATIENCE_SECONDS = 60
_SETTINGS = {
    "SPARK_LEASE_SECONDS": str(LEASE_SECONDS),
    "SPARK_POLL_SECONDS": str(POLL_SECONDS),
    "SPARK_LOG_LEVEL": "error",
}
_RUN = {
    "seed": 1,
    "seconds": 1,
    "agents": ["agent-1"],
    "gateways": ["gateway-1"],
    "poll_seconds": POLL_SECONDS,
    "lease_seconds": LEASE_SECONDS,
    "model_seconds": MODEL_SECONDS,
    "kinds": ["kill"],
}


async def run(plot: Plot, deaths: Sequence[Point], url: str, directory: Path) -> None:
    """Processes die at these points, one after the other, and the next one goes on to the end. Leaves in the
    directory what a torture run does."""
    story = Story(plot)
    async with AsyncExitStack() as stack:
        written = stack.enter_context(history(directory))
        model = await stack.enter_async_context(model_server(story, written))
        config = await stack.enter_async_context(_spark_toml(directory, model, plot, written))
        settings = _SETTINGS | {"SPARK_DATABASE_URL": url, "SPARK_CONFIG": config}
        mortal, at = await stack.enter_async_context(_services(written, deaths, settings))
        written.write("run", **_RUN)
        town = Town(written, at, Random(1))
        async with asyncio.timeout(PATIENCE_SECONDS), asyncio.TaskGroup() as tasks:
            streaming = tasks.create_task(stream_all(town, Random(1)))
            playing = tasks.create_task(story.play(Clients(town), partial(until_at_rest, url)))
            await _die(mortal, deaths, url)
            story.dead.set()
            await playing
            written.write("calm")
            await until_at_rest(url)
            streaming.cancel()
        written.write("end", waited_seconds=0)
        await dump(directory, url, at.agents[0].stub)


@asynccontextmanager
async def _services(
    written: History, deaths: Sequence[Point], settings: dict[str, str]
) -> AsyncIterator[tuple[Lives, Doors]]:
    """An agent service and, if that is what dies, a gateway. Gives the one that dies, and the doors."""
    first = deaths[0] if deaths else None
    of_gateway = bool(first) and first.function.startswith("gateway")
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        point = None if of_gateway else first
        agent = mortal = await enter(lives("agent-1", "agent_service", written, point, **settings))
        gateways: dict[str, str] = {}
        if of_gateway:
            ahead = {"SPARK_AGENT_ADDRESS": agent.address, "SPARK_LOG_LEVEL": "error"}
            mortal = await enter(lives("gateway-1", "gateway", written, first, **ahead))
            gateways[mortal.name] = mortal.address
        yield mortal, await enter(doors(written, {agent.name: agent.address}, gateways))


async def _die(mortal: Lives, deaths: Sequence[Point], url: str) -> None:
    for point, following in pairwise((*deaths, None)):
        await mortal.until_dead(point)
        with mortal.history.fault("kill", mortal.name):
            if mortal.module == "agent_service":
                await _let_leases_end(url)
            mortal.begin(following)


async def _let_leases_end(url: str) -> None:
    """Those of the dead, so that nobody has to wait for it."""
    with suppress(UndefinedTableError):
        async with connected(url) as connection:
            await connection.execute("UPDATE replicas SET lease_until = clock_timestamp()")


@asynccontextmanager
async def _spark_toml(
    directory: Path, model: ModelServer, plot: Plot, written: History
) -> AsyncIterator[str]:
    """Names the model and, where it is called, a server of the tool, which runs."""
    path = directory / "spark.toml"
    path.write_text(
        f"""[models.scripted]
base_url = "http://127.0.0.1:{model.port}/v1"
model = "scripted"
context_window = {CONTEXT_TOKENS}
placement = "system"
"""
    )
    if plot.tool != MARK:
        yield str(path)
        return
    async with tool_server(written) as tools:
        with path.open("a") as file:
            file.write(f'[tools.marks]\nurl = "http://127.0.0.1:{tools.port}/mcp"\n')
        yield str(path)
