"""One run: everything started, everybody at work, faults, calm, and what is left behind."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.torture import followers, stewards
from tests.torture.database import dump, until_quiet
from tests.torture.doors import doors
from tests.torture.fleet import AGENTS, GATEWAYS, LEASE_SECONDS, POLL_SECONDS, Fleet, fleet
from tests.torture.history import history
from tests.torture.nemesis import Nemesis
from tests.torture.plan import Kind, Targets, plan
from tests.torture.posters import post
from tests.torture.script import LONGEST_REPLY_SECONDS, Script
from tests.torture.town import Town

POSTERS, WATCHERS = 8, 4
# What nobody sees in so long is not waited for.
PATIENCE_SECONDS = 60.0

Job = Callable[[str, Town, Random], Awaitable[None]]


@dataclass(frozen=True)
class Order:
    """What is wanted of a run. The seed is that of the order of the faults and of their targets."""

    seconds: float
    seed: int
    sessions: int
    kinds: Collection[Kind]
    # Faults of lines befall those whose names end so.
    lines: str
    # Of the product, whose services are tortured.
    home: Path


async def run(order: Order, directory: Path) -> None:
    """Leaves everything in the directory."""
    script = Script(_chance(order.seed, "model"))
    with history(directory) as written:
        async with (
            fleet(directory, written, script, order.home) as tortured,
            doors(written, tortured.doors(AGENTS), tortured.doors(GATEWAYS)) as at,
        ):
            written.write("run", **_told(order))
            town = Town(written, at, _chance(order.seed, "town"))
            async with asyncio.TaskGroup() as tasks:
                streamers = followers.stream_all(town, _chance(order.seed, "streamers"))
                streaming = tasks.create_task(streamers)
                for _ in range(order.sessions):
                    await town.settle("founder")
                await _torture(order, tortured, town)
                script.wild = False
                written.write("calm")
                waited = await until_quiet(tortured.postgres.url, PATIENCE_SECONDS)
                streaming.cancel()
            # From here on nobody is asked for anything that the database would not know yet.
            await tortured.models["scripted"].stop()
            await dump(directory, tortured.postgres.url, at.agents[0].stub)
            written.write("end", waited_seconds=waited)


async def _torture(order: Order, tortured: Fleet, town: Town) -> None:
    """Return when the last fault is undone, and everybody has done what they were at."""
    lines = sorted(line for line in tortured.lines if line.endswith(order.lines))
    targets = Targets(AGENTS, GATEWAYS, lines, sorted(tortured.models))
    faults = plan(_chance(order.seed, "nemesis"), order.seconds, targets, LEASE_SECONDS, order.kinds)
    async with asyncio.TaskGroup() as clients:
        for name, job in _jobs():
            clients.create_task(job(name, town, _chance(order.seed, name)))
        await Nemesis(tortured, town.history).carry_out(faults)
        town.enough.set()


def _jobs() -> Iterator[tuple[str, Job]]:
    for n in range(POSTERS):
        yield f"poster-{n}", post
    for n in range(WATCHERS):
        yield f"watcher-{n}", followers.watch
    yield "pauser", stewards.pause
    yield "reviver", stewards.revive
    yield "updater", stewards.update
    yield "ender", stewards.end


def _told(order: Order) -> dict[str, object]:
    return {
        "seed": order.seed,
        "seconds": order.seconds,
        "agents": AGENTS,
        "gateways": GATEWAYS,
        "poll_seconds": POLL_SECONDS,
        "lease_seconds": LEASE_SECONDS,
        "model_seconds": LONGEST_REPLY_SECONDS,
        "kinds": sorted(order.kinds),
    }


def _chance(seed: int, name: str) -> Random:
    """Everybody has their own, so that nobody's is changed by what others do."""
    return Random(f"{seed} {name}")
