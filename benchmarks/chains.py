"""The processes that calls go through, ours and the baseline's, and what is sent through both."""

import os
import sys
from asyncio.subprocess import PIPE, create_subprocess_exec
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import grpc

from spark.agent.v1.agent_service_pb2 import CreateSessionRequest
from spark.agent.v1.agent_service_pb2_grpc import AgentServiceStub
from spark.agent.v1.interrupt_pb2 import Interrupt, Nudge
from spark.agent.v1.session_pb2 import Session, SessionConfig, SessionMode
from spark.gateway.v1.gateway_service_pb2 import PostInterruptRequest

ANY_PORT = "127.0.0.1:0"
NO_PROXY = (("grpc.enable_http_proxy", 0),)
TEXT = "Stop the experiment with the large batch and go on with the small one. " * 3


class Died(Exception):
    """A process ended before it was listening."""


@dataclass(frozen=True, slots=True)
class Chains:
    """Channels to the gateway and the agent service behind it, and to the first and the last hop of echo."""

    database_url: str
    gateway: grpc.aio.Channel
    agent: grpc.aio.Channel
    hops: grpc.aio.Channel
    last_hop: grpc.aio.Channel

    async def new_sessions(self, count: int) -> list[str]:
        """The ids of sessions that sleep until they are interrupted."""
        agent = AgentServiceStub(self.agent)
        return [(await agent.CreateSession(sleeper())).session.session_id for _ in range(count)]


def sleeper() -> CreateSessionRequest:
    config = SessionConfig(model="demo", mode=SessionMode.SESSION_MODE_ON_INTERRUPT)
    return CreateSessionRequest(session=Session(goal="Keep the lamp.", config=config))


def nudge(session_id: str) -> PostInterruptRequest:
    interrupt = Interrupt(session_id=session_id, source="operator", nudge=Nudge(text=TEXT))
    return PostInterruptRequest(interrupt=interrupt, request_id=str(uuid4()))


@asynccontextmanager
async def both_chains(database_url: str, baseline_url: str, directory: Path) -> AsyncIterator[Chains]:
    """Run them while the context is open. What they log goes into the directory."""
    async with AsyncExitStack() as stack:

        async def start(module: str, *arguments: str, **settings: str) -> str:
            return await stack.enter_async_context(process(directory, module, *arguments, **settings))

        async def channel(address: str) -> grpc.aio.Channel:
            return await stack.enter_async_context(grpc.aio.insecure_channel(address, options=NO_PROXY))

        our_database = {"SPARK_DATABASE_URL": database_url, "SPARK_DEMO_PACE": "0"}
        agent = await start("agent_service", SPARK_AGENT_LISTEN=ANY_PORT, **our_database)
        gateway = await start("gateway", SPARK_GATEWAY_LISTEN=ANY_PORT, SPARK_AGENT_ADDRESS=agent)
        last_hop = await start("benchmarks.echo", "last", baseline_url)
        hops = await start("benchmarks.echo", "hop", last_hop)
        channels = [await channel(address) for address in (gateway, agent, hops, last_hop)]
        yield Chains(database_url, *channels)


@asynccontextmanager
async def process(directory: Path, module: str, *arguments: str, **settings: str) -> AsyncIterator[str]:
    """Run a module that says where it listens, with these settings and no others; gives its address."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SPARK_")}
    log = directory / f"{module}.log"
    with log.open("a") as stderr:
        process = await create_subprocess_exec(
            *(sys.executable, "-m", module, *arguments),
            stdout=PIPE,
            stderr=stderr,
            env=environment | settings,
            cwd=directory,
        )
    try:
        assert process.stdout
        line = (await process.stdout.readline()).decode()
        if not line.startswith("listening "):
            raise Died(f"{module} did not start:\n{log.read_text()}")
        yield line.removeprefix("listening ").strip()
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
