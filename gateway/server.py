"""The gateway's gRPC server: the service, health, reflection, and how all of it stops."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import grpc
import structlog
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1.health import SERVICE_NAME as HEALTH_SERVICE
from grpc_reflection.v1alpha import reflection, reflection_pb2

from gateway.agent_client import AgentClient
from gateway.health import Health
from gateway.interceptors import Statuses
from gateway.servicer import GatewayServicer
from gateway.settings import Settings, SettingsError
from spark.gateway.v1 import gateway_service_pb2
from spark.gateway.v1.gateway_service_pb2_grpc import add_GatewayServiceServicer_to_server

SERVICE = gateway_service_pb2.DESCRIPTOR.services_by_name["GatewayService"].full_name
REFLECTION_V1 = "grpc.reflection.v1.ServerReflection"
CRASH_POLL_SECONDS = 0.2

_OPTIONS = (
    # A second process on the same port is an error, not a rival for every other call.
    ("grpc.so_reuseport", 0),
    ("grpc.keepalive_time_ms", 30_000),
    # It is this limit that counts, not grpc.keepalive_timeout_ms.
    ("grpc.http2.ping_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # Not above the interval at which clients ping, or they are cut off.
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
)

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


@asynccontextmanager
async def serving(settings: Settings, agent: AgentClient) -> AsyncIterator[int]:
    """A server on the port that it yields. Leaving stops it: new calls are refused, watches are ended, and
    other calls in flight have the drain time to finish. Raises SettingsError where it cannot listen."""
    stopping = asyncio.Event()
    health = Health((SERVICE,))
    servicer = GatewayServicer(agent, stopping)

    def build() -> grpc.aio.Server:
        server = grpc.aio.server(interceptors=[Statuses()], options=_OPTIONS)
        add_GatewayServiceServicer_to_server(servicer, server)
        health_pb2_grpc.add_HealthServicer_to_server(health, server)
        _add_reflection(server)
        return server

    server = _Server(build, settings.gateway_listen)
    port = await server.start()
    async with asyncio.TaskGroup() as tasks:
        keeping = tasks.create_task(server.keep())
        following = tasks.create_task(_follow(agent, health))
        try:
            yield port
        finally:
            keeping.cancel()
            following.cancel()
            health.stop()
            stopping.set()
            await server.stop(settings.drain_seconds)


class _Server:
    """A server that is put in the place of one that has crashed.

    A method whose name is no UTF-8 is enough: gRPC's loop dies of it and takes no more calls, on any
    connection, while the process lives on.
    """

    def __init__(self, build: Callable[[], grpc.aio.Server], address: str) -> None:
        self._build, self._server, self._address = build, build(), address

    async def start(self) -> int:
        """The port. Raises SettingsError where it cannot be had."""
        try:
            port = self._server.add_insecure_port(self._address)
        except RuntimeError:
            raise SettingsError(f"SPARK_GATEWAY_LISTEN: cannot listen on {self._address}") from None
        self._address = f"{self._address.rpartition(':')[0]}:{port}"
        await self._server.start()
        return port

    async def keep(self) -> None:
        while True:
            try:
                # With calls in flight it tells of a crash only when its time is over.
                await self._server.wait_for_termination(CRASH_POLL_SECONDS)
            except Exception as crash:
                log.error("server crashed", exc_info=crash)
                await self._server.stop(None)
                self._server = self._build()
                await self.start()

    async def stop(self, drain_seconds: float) -> None:
        await self._server.stop(drain_seconds)


def _add_reflection(server: grpc.aio.Server) -> None:
    """The installed reflection knows v1alpha; v1 has the same messages under another name."""
    names = (SERVICE, HEALTH_SERVICE, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server)
    method = grpc.stream_stream_rpc_method_handler(
        reflection.aio.ReflectionServicer(names).ServerReflectionInfo,
        reflection_pb2.ServerReflectionRequest.FromString,
        reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    handler = grpc.method_handlers_generic_handler(REFLECTION_V1, {"ServerReflectionInfo": method})
    server.add_generic_rpc_handlers((handler,))


async def _follow(agent: AgentClient, health: Health) -> None:
    """Serving is what the gateway says while a replica of the agent service says so."""
    async for reachable in agent.reachable():
        log.info("agent service", reachable=reachable)
        health.tell(reachable)
