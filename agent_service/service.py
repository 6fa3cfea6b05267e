"""The service put together: database, models, tools, loop and door, opened in order and closed in reverse."""

import asyncio
import gc
import logging
import signal
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass

import structlog

from agent_service.loop.agent import Agent
from agent_service.loop.dispatcher import Dispatcher
from agent_service.loop.frame import RENDER_VERSION
from agent_service.loop.interruption import Interruption
from agent_service.loop.lease_keeper import LeaseKeeper
from agent_service.loop.profiles import Profiles
from agent_service.loop.spread import Spread
from agent_service.model.registry import Models
from agent_service.rpc.pulls import Pulls
from agent_service.rpc.server import serve
from agent_service.rpc.servicer import AgentService
from agent_service.rpc.streams import NOTICE_SECONDS, LiveStreams
from agent_service.rpc.tails import Tails
from agent_service.settings import Config, Settings, advertised, limits, unknown_variables
from agent_service.store.database import Database, migrate, open_database
from agent_service.store.deposits import Deposits
from agent_service.store.embedded import embedded_postgres
from agent_service.store.interrupts import Interrupts
from agent_service.store.leases import Leases
from agent_service.store.model_profiles import ModelProfiles
from agent_service.store.peers import Peers
from agent_service.store.room import Room
from agent_service.store.safe_points import SafePoints
from agent_service.store.sessions import Sessions
from agent_service.store.streams import Streams
from agent_service.store.transcript import Transcript
from agent_service.tools import Toolbox
from agent_service.tools.builtin import builtin_tools
from agent_service.tools.tell import Tell
from agent_service.tools.tool_set import ToolSet
from agent_service.wakeups import Wakeups
from agent_service.wakeups.relay import relaying

_log = structlog.get_logger(__name__)


def run(settings: Settings, config: Config) -> None:
    """Serve until SIGTERM or SIGINT. Raises SettingsError."""
    _configure_logs(settings.log_level)
    with _database_url(settings) as url:
        asyncio.run(_serve(settings, config, url))


def migrate_only(settings: Settings) -> None:
    """Bring the schema up. Raises SettingsError."""
    with _database_url(settings) as url:
        asyncio.run(_migrate(url))


@contextmanager
def _database_url(settings: Settings) -> Iterator[str]:
    if settings.database_url:
        yield settings.database_url
        return
    with embedded_postgres(settings.data_dir) as url:
        yield url


async def _migrate(url: str) -> None:
    async with open_database(url) as database:
        await migrate(database)


@dataclass(frozen=True, slots=True)
class _Parts:
    """What the loop and the door have in common."""

    settings: Settings
    models: Models
    database: Database
    wakeups: Wakeups
    deposits: Deposits
    profiles: Profiles
    toolbox: Toolbox
    # Set as soon as nothing more is to be begun.
    stopping: asyncio.Event


async def _serve(settings: Settings, config: Config, url: str) -> None:
    stop = asyncio.Event()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signal_number, stop.set)
    if unknown := unknown_variables():
        _log.warning("unknown variables", names=unknown)
    async with (
        _opened(settings, config, url) as parts,
        _door(parts) as address,
        LeaseKeeper(parts.database, advertised(settings, address), settings.lease_seconds) as keeper,
        asyncio.TaskGroup() as tasks,
    ):
        dispatcher = _dispatcher(parts, keeper)
        tasks.create_task(dispatcher.serve(settings.drain_seconds))
        # What the imports and the wiring made stays: no collection need walk through it.
        gc.freeze()
        sys.stdout.write(f"listening {address}\n")
        sys.stdout.flush()
        _log.info("listening", address=address, models=parts.models.names, tools=parts.toolbox.names)
        await stop.wait()
        _log.info("stopping", drain_seconds=settings.drain_seconds)
        dispatcher.stop()
    _log.info("stopped")


@asynccontextmanager
async def _opened(settings: Settings, config: Config, url: str) -> AsyncIterator[_Parts]:
    """The parts on a database whose schema is up. Raises SettingsError."""
    models = Models(config, settings.demo_pace, settings.max_reply_bytes)
    wakeups, stopping = Wakeups(), asyncio.Event()
    async with (
        _tool_sets(config) as tool_sets,
        open_database(url) as database,
        relaying(database, wakeups, stopping),
        Deposits(database, wakeups, limits(settings)) as deposits,
    ):
        await migrate(database)
        tell = Tell(Peers(database), deposits, settings.max_text_bytes)
        toolbox = Toolbox(
            (*builtin_tools(), tell),
            settings.max_tool_output_bytes,
            settings.tool_timeout_seconds,
            sets=tool_sets,
        )
        profiles = Profiles(models.named, ModelProfiles(database))
        yield _Parts(settings, models, database, wakeups, deposits, profiles, toolbox, stopping)
    await models.close()


@asynccontextmanager
async def _tool_sets(config: Config) -> AsyncIterator[Sequence[ToolSet]]:
    """The sets of tools, with their servers running. Raises SettingsError."""
    if not config.tools:
        yield ()
        return
    # Takes a second, which a service without such tools can do without.
    from agent_service.tools.mcp.tool_set import McpToolSet, supervised

    sets = [McpToolSet(name, table) for name, table in config.tools.items()]
    async with supervised(sets):
        yield sets


def _dispatcher(parts: _Parts, keeper: LeaseKeeper) -> Dispatcher:
    """The loop: an agent for each session that this replica claims."""
    settings, database, wakeups, spread = parts.settings, parts.database, parts.wakeups, Spread()
    safe_points = SafePoints(database, wakeups, RENDER_VERSION)
    agent = Agent.of(
        Transcript(database, wakeups),
        safe_points,
        Room(database, wakeups),
        parts.models.named,
        parts.profiles,
        parts.toolbox,
        wakeups,
        Interruption(safe_points, wakeups, settings.poll_seconds),
        spread,
        parts.stopping,
    )
    return Dispatcher(
        Leases(database),
        Interrupts(database, wakeups),
        keeper,
        agent.run,
        wakeups,
        spread,
        parts.stopping,
        settings.max_sessions,
        settings.poll_seconds,
    )


@asynccontextmanager
async def _door(parts: _Parts) -> AsyncIterator[str]:
    """The gRPC server, open to callers; gives its address."""
    settings, wakeups, stopping = parts.settings, parts.wakeups, parts.stopping
    sessions, streams = Sessions(parts.database, wakeups), Streams(parts.database)
    own_address = asyncio.get_running_loop().create_future()
    tails = Tails(streams, wakeups, stopping, min(settings.poll_seconds, NOTICE_SECONDS))
    servicer = AgentService(
        sessions,
        parts.deposits,
        Interrupts(parts.database, wakeups),
        streams,
        LiveStreams(sessions, streams, tails, Pulls(streams, own_address)),
        limits(settings),
        parts.models.names,
        parts.toolbox,
        parts.profiles.check,
    )
    async with serve(
        settings.agent_listen, servicer, stopping, settings.insecure_listen, settings.drain_seconds
    ) as port:
        address = f"{settings.agent_listen.rpartition(':')[0]}:{port}"
        own_address.set_result(advertised(settings, address))
        yield address


class _Logger(structlog.WriteLogger):
    """A line that cannot be written is lost: of a full disk or a reader that has gone nothing fails."""

    def msg(self, message: str) -> None:
        with suppress(OSError, ValueError):
            super().msg(message)

    debug = info = warning = error = critical = exception = msg


def _configure_logs(level: str) -> None:
    """One JSON object a line on stderr. What libraries say below a warning is noise."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    for name in ("mcp", "client"):
        # Of the package mcp: what it warns of has the content of messages in it, and is told by tool sets.
        logging.getLogger(name).setLevel(logging.CRITICAL)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=lambda *_: _Logger(sys.stderr),
        cache_logger_on_first_use=True,
    )
