"""The gateway's gRPC server: the service, health, reflection, and how all of it stops."""

import asyncio
from collections.abc import AsyncIterator
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

_OPTIONS = (
    # A second process on the same port is an error, not a rival for every other call.
    ("grpc.so_reuseport", 0),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
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
    server = grpc.aio.server(interceptors=[Statuses()], options=_OPTIONS)
    health = Health((SERVICE,))
    add_GatewayServiceServicer_to_server(GatewayServicer(agent, stopping), server)
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    _add_reflection(server)
    port = _listen(server, settings.gateway_listen)
    await server.start()
    async with asyncio.TaskGroup() as tasks:
        following = tasks.create_task(_follow(agent, health))
        try:
            yield port
        finally:
            following.cancel()
            health.stop()
            stopping.set()
            await server.stop(settings.drain_seconds)


def _listen(server: grpc.aio.Server, address: str) -> int:
    try:
        return server.add_insecure_port(address)
    except RuntimeError:
        raise SettingsError(f"SPARK_GATEWAY_LISTEN: cannot listen on {address}") from None


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
