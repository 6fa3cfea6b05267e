"""Serves until SIGTERM. `migrate` brings the schema up instead; `health` exits 0 when a service serves."""

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import grpc
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc

from agent_service.loop.agent import Agent
from agent_service.loop.dispatcher import Dispatcher
from agent_service.loop.frame import RENDER_VERSION
from agent_service.loop.lease_keeper import LeaseKeeper
from agent_service.model.registry import Models
from agent_service.rpc.server import serve
from agent_service.rpc.servicer import AgentService
from agent_service.rpc.streams import LiveStreams
from agent_service.settings import Config, Settings, SettingsError, limits, load, unknown_variables
from agent_service.store.database import Database, UnsafeDatabase, migrate, open_database
from agent_service.store.deposits import Deposits
from agent_service.store.embedded import EmbeddedMissing, embedded_postgres
from agent_service.store.leases import Leases
from agent_service.store.safe_points import SafePoints
from agent_service.store.sessions import Sessions
from agent_service.store.streams import Streams
from agent_service.store.transcript import Transcript
from agent_service.tools import Toolbox
from agent_service.tools.builtin import builtin_tools
from agent_service.wakeups import Wakeups

HEALTH_DEADLINE_SECONDS = 2

_log = structlog.get_logger(__name__)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m agent_service", description=__doc__)
    parser.add_argument("command", nargs="?", choices=("serve", "migrate", "health"), default="serve")
    command = parser.parse_args().command
    problem = ""
    try:
        settings, config = load()
        if command == "health":
            return 0 if _is_serving(settings.agent_listen) else 1
        _configure_logs(settings.log_level)
        with _database_url(settings) as url:
            asyncio.run(_migrate(url) if command == "migrate" else _serve(settings, config, url))
    except* (SettingsError, UnsafeDatabase, EmbeddedMissing) as errors:
        problem = "; ".join(str(error) for error in errors.exceptions)
    if problem:
        sys.stderr.write(f"agent_service: {problem}\n")
    return 2 if problem else 0


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


async def _serve(settings: Settings, config: Config, url: str) -> None:
    """Everything that lives as long as the service, opened in order and closed in reverse."""
    stop = asyncio.Event()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signal_number, stop.set)
    if unknown := unknown_variables():
        _log.warning("unknown variables", names=unknown)
    models = Models(config, settings.demo_pace)
    toolbox = Toolbox(builtin_tools(), settings.max_tool_output_bytes)
    wakeups, stopping = Wakeups(), asyncio.Event()
    async with open_database(url) as database:
        await migrate(database)
        agent = Agent(
            Transcript(database, wakeups),
            SafePoints(database, wakeups, RENDER_VERSION),
            models.named,
            toolbox,
            wakeups,
            stopping,
        )
        async with (
            _door(settings, database, wakeups, models, toolbox, stopping) as address,
            LeaseKeeper(database, address, settings.lease_seconds) as keeper,
            asyncio.TaskGroup() as tasks,
        ):
            dispatcher = Dispatcher(
                Leases(database),
                keeper,
                agent.run,
                wakeups,
                stopping,
                settings.max_sessions,
                settings.poll_seconds,
            )
            tasks.create_task(dispatcher.serve(settings.drain_seconds))
            sys.stdout.write(f"listening {address}\n")
            sys.stdout.flush()
            _log.info("listening", address=address, models=models.names)
            await stop.wait()
            _log.info("stopping", drain_seconds=settings.drain_seconds)
            dispatcher.stop()
    await models.close()
    _log.info("stopped")


@asynccontextmanager
async def _door(
    settings: Settings,
    database: Database,
    wakeups: Wakeups,
    models: Models,
    toolbox: Toolbox,
    stopping: asyncio.Event,
) -> AsyncIterator[str]:
    """The gRPC server, open to callers; gives its address."""
    sessions, streams = Sessions(database, wakeups), Streams(database)
    live = LiveStreams(sessions, streams, wakeups, stopping, settings.poll_seconds)
    async with Deposits(database, wakeups, limits(settings)) as deposits:
        servicer = AgentService(
            sessions, deposits, streams, live, limits(settings), models.names, toolbox.names
        )
        async with serve(
            settings.agent_listen, servicer, stopping, settings.insecure_listen, settings.drain_seconds
        ) as port:
            yield f"{settings.agent_listen.rpartition(':')[0]}:{port}"


def _is_serving(address: str) -> bool:
    with grpc.insecure_channel(address, options=(("grpc.enable_http_proxy", 0),)) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=HEALTH_DEADLINE_SECONDS
            )
        except grpc.RpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def _configure_logs(level: str) -> None:
    """One JSON object a line on stderr. What libraries say below a warning is noise."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


if __name__ == "__main__":
    sys.exit(main())
