"""Both services, running as long as the tests run, and a client that knows them from reflection alone."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio
from grpc_health.v1.health_pb2 import HealthCheckResponse

from tests.conftest import Postgres
from tests.e2e.client import Client, Door, programs
from tests.e2e.databases import new_database
from tests.e2e.processes import running


@dataclass(frozen=True)
class Spark:
    agent: Door
    gateway: Door
    database_url: str


@pytest.fixture(scope="session")
def client() -> Client:
    return Client(programs()[0])


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def spark(postgres: Postgres, client: Client) -> AsyncIterator[Spark]:
    """Both services on a database that was empty when they started, with a demo that takes half a second
    for a round."""
    url = await new_database(postgres)
    async with (
        running("agent_service", SPARK_DATABASE_URL=url, SPARK_DEMO_PACE="0.2") as agent,
        running("gateway", SPARK_AGENT_ADDRESS=agent.address) as gateway,
    ):
        async with client.health(gateway.address).stream("Watch") as health:
            await health.until(lambda said: said and said[-1].status == HealthCheckResponse.SERVING)
        yield Spark(client.agent(agent.address), client.gateway(gateway.address), url)
