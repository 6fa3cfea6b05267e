"""The gRPC server of the agent service: its options, its services, its start and its clean end."""

import asyncio
import ipaddress
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
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

_OPTIONS = (
    # Two processes on one port would each get a part of the calls: the second one is told instead.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
    # A watcher that is gone without a word is noticed.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
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
    server = grpc.aio.server(interceptors=[StatusInterceptor("spark")], options=_OPTIONS)
    add_AgentServiceServicer_to_server(servicer, server)
    health_pb2_grpc.add_HealthServicer_to_server(Health((SERVICE,), stopping), server)
    _add_reflection(server)
    try:
        port = server.add_insecure_port(listen)
    except RuntimeError:
        raise SettingsError(f"SPARK_AGENT_LISTEN: cannot listen at {listen}") from None
    await server.start()
    try:
        yield port
    finally:
        stopping.set()
        await server.stop(drain_seconds)


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
