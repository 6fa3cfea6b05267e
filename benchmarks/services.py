"""Spark's own processes, and what is sent to them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from uuid import uuid4

import asyncpg
import grpc
from google.protobuf.json_format import Parse

from benchmarks.bench import Bench
from benchmarks.processes import Process, channel, running
from spark.agent.v1.agent_service_pb2 import CreateSessionRequest
from spark.agent.v1.agent_service_pb2_grpc import AgentServiceStub
from spark.agent.v1.interrupt_pb2 import Interrupt, Notification, Nudge
from spark.agent.v1.session_pb2 import Session, SessionConfig, SessionMode
from spark.gateway.v1.gateway_service_pb2 import PostInterruptRequest

_TEXT = "Stop the experiment with the large batch and go on with the small one. " * 3
_DATA = """{
    "job": "tune-7", "state": "finished", "epochs": 12, "loss": 0.0421, "checkpoints": ["a", "b", "c"]
}"""
_CREATED_AT_ONCE = 50


@dataclass(frozen=True, slots=True)
class Services:
    """Channels to a gateway and to the agent services, of which only the first is behind the gateway."""

    database_url: str
    gateway: grpc.aio.Channel
    agents: tuple[grpc.aio.Channel, ...]

    async def new_sessions(self, count: int) -> list[str]:
        """The ids of sessions that sleep until they are interrupted."""
        create = AgentServiceStub(self.agents[0]).CreateSession
        config = SessionConfig(model="demo", mode=SessionMode.SESSION_MODE_ON_INTERRUPT)
        request = CreateSessionRequest(session=Session(goal="Keep the lamp.", config=config))
        at_once = asyncio.Semaphore(_CREATED_AT_ONCE)

        async def new_session() -> str:
            async with at_once:
                return (await create(request)).session.session_id

        return await asyncio.gather(*(new_session() for _ in range(count)))

    async def paused_sessions(self, count: int) -> list[str]:
        """The ids of sessions that no deposit wakes, so that the deposit is all that is measured."""
        session_ids = await self.new_sessions(count)
        connection = await asyncpg.connect(self.database_url)
        await connection.execute("UPDATE sessions SET state = 'paused'")
        await connection.close()
        return session_ids


@asynccontextmanager
async def services(bench: Bench, name: str, replicas: int = 1, **settings: str) -> AsyncIterator[Services]:
    """Run them on a new database while the context is open, with a model that answers at once, and with
    these settings of the agent services."""
    database_url = await bench.new_database(name)
    async with AsyncExitStack() as stack:

        async def start(module: str, **settings: str) -> Process:
            return await stack.enter_async_context(running(bench.directory, module, **settings))

        settings |= {
            "SPARK_DATABASE_URL": database_url,
            "SPARK_AGENT_LISTEN": "127.0.0.1:0",
            "SPARK_DEMO_PACE": "0",
        }
        agents = [await start("agent_service", **settings) for _ in range(replicas)]
        gateway = await start(
            "gateway", SPARK_GATEWAY_LISTEN="127.0.0.1:0", SPARK_AGENT_ADDRESS=agents[0].address
        )
        channels = [
            await stack.enter_async_context(channel(process.address)) for process in (gateway, *agents)
        ]
        yield Services(database_url, channels[0], tuple(channels[1:]))


def nudge(session_id: str) -> PostInterruptRequest:
    interrupt = Interrupt(session_id=session_id, source="operator", nudge=Nudge(text=_TEXT))
    return PostInterruptRequest(interrupt=interrupt, request_id=str(uuid4()))


def notification(session_id: str) -> PostInterruptRequest:
    """A fact with data."""
    said = Notification(type="finetune.finished", subject="tune-7", text=_TEXT)
    Parse(_DATA, said.data)
    interrupt = Interrupt(session_id=session_id, source="service:optimizer", notification=said)
    return PostInterruptRequest(interrupt=interrupt, request_id=str(uuid4()))
