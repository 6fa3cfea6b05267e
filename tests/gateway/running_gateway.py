"""The gateway's server in this process, and a caller of it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gateway.agent_client import connect
from gateway.server import serving
from gateway.settings import Settings
from spark.gateway.v1.gateway_service_pb2_grpc import GatewayServiceStub
from tests.gateway.conditions import PATIENCE_SECONDS
from tests.gateway.scripted_agent import ScriptedAgent, running

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@asynccontextmanager
async def gateway_to(agent_address: str, drain_seconds: float = 10) -> AsyncIterator[str]:
    """The address of a gateway to the agent service at an address."""
    settings = Settings(
        gateway_listen="127.0.0.1:0", agent_address=agent_address, drain_seconds=drain_seconds
    )
    async with (
        connect(agent_address, silence_seconds=PATIENCE_SECONDS) as agent,
        serving(settings, agent) as port,
    ):
        yield f"127.0.0.1:{port}"


class Caller:
    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self.gateway = GatewayServiceStub(channel)
        self.health = health_pb2_grpc.HealthStub(channel)

    async def status(self) -> int:
        return (await self.health.Check(health_pb2.HealthCheckRequest())).status

    @asynccontextmanager
    async def watching_health(self, service: str = "") -> AsyncIterator["HealthWatch"]:
        watch = self.health.Watch(health_pb2.HealthCheckRequest(service=service))
        yield HealthWatch(watch)
        watch.cancel()


class HealthWatch:
    def __init__(self, watch: grpc.aio.UnaryStreamCall) -> None:
        self._watch = watch

    async def until(self, status: int) -> None:
        """Wait until the gateway says this of itself."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (await self._watch.read()).status != status:
                pass


@asynccontextmanager
async def calling(address: str) -> AsyncIterator[Caller]:
    async with grpc.aio.insecure_channel(address) as channel:
        yield Caller(channel)


@asynccontextmanager
async def caller_of(script: ScriptedAgent) -> AsyncIterator[Caller]:
    """A caller of a gateway to an agent service that does as the script says."""
    async with running(script) as agent, gateway_to(agent.address) as address, calling(address) as caller:
        yield caller
