"""A replica without a door, whose model takes its time: the loop, and nothing else.

`python -m benchmarks.replica DATABASE_URL REPLY_SECONDS` runs it until SIGTERM. The first line on
stdout is `listening -`.
"""

import asyncio
import logging
import signal
import sys
from collections.abc import AsyncGenerator

import structlog

from agent_service.domain import Placement
from agent_service.loop.agent import Agent
from agent_service.loop.dispatcher import Dispatcher
from agent_service.loop.frame import RENDER_VERSION
from agent_service.loop.interruption import Interruption
from agent_service.loop.lease_keeper import LeaseKeeper
from agent_service.loop.profiles import Profiles
from agent_service.loop.spread import Spread
from agent_service.model import Chunk, Model, Request, Served, ToolCallPiece
from agent_service.store.database import Database, open_database
from agent_service.store.interrupts import Interrupts
from agent_service.store.leases import Leases
from agent_service.store.model_profiles import ModelProfiles
from agent_service.store.room import Room
from agent_service.store.safe_points import SafePoints
from agent_service.store.transcript import Transcript
from agent_service.tools import Toolbox
from agent_service.tools.builtin import builtin_tools
from agent_service.wakeups import Wakeups

POLL_SECONDS = 1
LEASE_SECONDS = 30
MAX_SESSIONS = 2000


class CallingModel:
    """Calls `now` in each round of a turn but the last, and keeps no state: a turn is as long as what is said
    after its last user row."""

    def __init__(self, calls: int, seconds: float) -> None:
        """So many calls in a turn; so long for a reply."""
        self._calls, self._seconds = calls, seconds

    async def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        if self._seconds:
            await asyncio.sleep(self._seconds)
        since = next(n for n, message in enumerate(reversed(request.messages)) if message["role"] == "user")
        if since < 2 * self._calls:
            yield Chunk(tool_calls=(ToolCallPiece(0, name="now"),))
        else:
            yield Chunk(text="Done.")

    async def context_window(self) -> int | None:
        return None

    @property
    def served(self) -> Served:
        return Served("", "calling", Placement.SYSTEM)

    async def render(self, request: Request) -> str | None:
        return None


def agent(
    database: Database, wakeups: Wakeups, model: Model, spread: Spread, stopping: asyncio.Event
) -> Agent:
    """An agent with this model and the real store."""
    safe_points = SafePoints(database, wakeups, RENDER_VERSION)
    return Agent.of(
        Transcript(database, wakeups),
        safe_points,
        Room(database, wakeups),
        lambda name: model,
        Profiles(lambda name: model, ModelProfiles(database)),
        Toolbox(builtin_tools(), max_output_bytes=1024, timeout_seconds=60),
        wakeups,
        Interruption(safe_points, wakeups, POLL_SECONDS),
        spread,
        stopping,
    )


async def _serve(database_url: str, reply_seconds: float) -> None:
    wakeups, spread, stopping = Wakeups(), Spread(), asyncio.Event()
    model = CallingModel(calls=1, seconds=reply_seconds)
    async with open_database(database_url) as database, LeaseKeeper(database, "-", LEASE_SECONDS) as keeper:
        dispatcher = Dispatcher(
            Leases(database),
            Interrupts(database, wakeups),
            keeper,
            agent(database, wakeups, model, spread, stopping).run,
            wakeups,
            spread,
            stopping,
            MAX_SESSIONS,
            POLL_SECONDS,
        )
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, dispatcher.stop)
        print("listening -", flush=True)
        await dispatcher.serve(drain_seconds=0)


if __name__ == "__main__":
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    asyncio.run(_serve(sys.argv[1], float(sys.argv[2])))
