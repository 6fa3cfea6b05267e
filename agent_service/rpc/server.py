"""The gRPC server of the agent service: its options, its services, its start and its clean end."""

import asyncio
import ipaddress
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import grpc
import structlog
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc

from agent_service.rpc.health import Health
from agent_service.rpc.interceptors import StatusInterceptor
from agent_service.settings import SettingsError
from spark.agent.v1 import agent_service_pb2
from spark.agent.v1.agent_service_pb2_grpc import AgentServiceServicer, add_AgentServiceServicer_to_server

SERVICE = agent_service_pb2.DESCRIPTOR.services_by_name["AgentService"].full_name
REFLECTION_V1 = "grpc.reflection.v1.ServerReflection"

MAX_REQUEST_BYTES = 4 * 1024 * 1024
CRASH_POLL_SECONDS = 0.2

_OPTIONS = (
    # Two processes on one port would each get a part of the calls: the second one is told instead.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
    # A watcher that is gone without a word is noticed.
    ("grpc.keepalive_time_ms", 30_000),
    # It is this limit that counts, not grpc.keepalive_timeout_ms.
    ("grpc.http2.ping_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # Clients may ping more often than grpc's five minutes before they are cut off.
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
)


@asynccontextmanager
async def serve(
    listen: str,
    servicer: AgentServiceServicer,
    stopping: asyncio.Event,
    insecure_listen: bool,
    drain_seconds: float,
) -> AsyncIterator[int]:
    """Serve at HOST:PORT while the context is open, and give the port, which port 0 leaves to the system.

    On leaving, health says NOT_SERVING, `stopping` is set so that streams end, and calls that are under way
    have `drain_seconds` to finish. Raises SettingsError for an address that cannot or must not be used.
    """
    if not insecure_listen and not _is_loopback(listen):
        raise SettingsError(
            f"SPARK_AGENT_LISTEN: {listen} is not a loopback address, and callers are not authenticated; "
            "set SPARK_INSECURE_LISTEN=1 to listen there all the same"
        )

    def build() -> grpc.aio.Server:
        server = grpc.aio.server(interceptors=[StatusInterceptor()], options=_OPTIONS)
        add_AgentServiceServicer_to_server(servicer, server)
        health_pb2_grpc.add_HealthServicer_to_server(Health((SERVICE,), stopping), server)
        _add_reflection(server)
        return server

    server = _Server(build, listen)
    port = await server.start()
    async with asyncio.TaskGroup() as tasks:
        keeping = tasks.create_task(server.keep())
        try:
            yield port
        finally:
            keeping.cancel()
            stopping.set()
            await server.stop(drain_seconds)


class _Server:
    """A server that is put in the place of one that has crashed.

    A method whose name is no UTF-8 is enough: grpc's loop dies of it and takes no more calls, on any
    connection, while the process lives on.
    """

    def __init__(self, build: Callable[[], grpc.aio.Server], listen: str) -> None:
        self._build, self._server, self._listen = build, build(), listen
        self._log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

    async def start(self) -> int:
        """The port. Raises SettingsError where it cannot be had."""
        try:
            port = self._server.add_insecure_port(self._listen)
        except RuntimeError:
            raise SettingsError(f"SPARK_AGENT_LISTEN: cannot listen at {self._listen}") from None
        self._listen = f"{self._listen.rpartition(':')[0]}:{port}"
        await self._server.start()
        return port

    async def keep(self) -> None:
        while True:
            try:
                # With calls in flight it tells of a crash only when its time is over.
                await self._server.wait_for_termination(CRASH_POLL_SECONDS)
            except Exception as crash:
                self._log.error("server crashed", exc_info=crash)
                await self._server.stop(None)
                self._server = self._build()
                await self.start()

    async def stop(self, drain_seconds: float) -> None:
        await self._server.stop(drain_seconds)


def _add_reflection(server: grpc.aio.Server) -> None:
    """Reflection v1alpha, and the same under the name of v1, whose messages are the same on the wire."""
    services = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
    servicer = reflection.aio.ReflectionServicer(services)
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, server)
    v1 = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    handlers = {"ServerReflectionInfo": v1}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(REFLECTION_V1, handlers),))


def _is_loopback(listen: str) -> bool:
    host = listen.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
