"""The services with the model and the configuration of an example."""

import asyncio
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from spark.agent.v1.message_pb2 import Message
from tests.conftest import Postgres
from tests.e2e.client import ROOT, Client, Door
from tests.e2e.databases import new_database
from tests.e2e.processes import running
from tests.support import until


@dataclass(frozen=True)
class Agents:
    agent: Door
    gateway: Door

    async def create(self, name: str, goal: str, tool: str, **labels: str) -> str:
        config = {"mode": "SESSION_MODE_ON_INTERRUPT", "disable_inner_voice": True, "tools": [tool]}
        session = {"display_name": name, "goal": goal, "config": config, "labels": labels}
        return (await self.agent.call("CreateSession", session=session)).session.session_id

    async def post(self, session_id: str, text: str) -> None:
        interrupt = {"session_id": session_id, "source": "operator", "nudge": {"text": text}}
        await self.gateway.call("PostInterrupt", interrupt=interrupt)

    async def messages(self, session_id: str) -> list[Message]:
        return list((await self.agent.call("ListMessages", session_id=session_id)).messages)

    async def until_said(self, session_id: str, text: str) -> list[Message]:
        """The transcript, once the agent has said something, to itself or to a tool."""

        async def said() -> bool:
            return any(text in row.text for row in await self.messages(session_id))

        await until(said)
        return await self.messages(session_id)


@asynccontextmanager
async def agents_of(
    example: str, postgres: Postgres, client: Client, directory: Path
) -> AsyncIterator[Agents]:
    """As the README of the example says, at other ports."""
    home = ROOT / "examples" / example
    process = await asyncio.create_subprocess_exec(sys.executable, home / "model.py", "0", stdout=PIPE)
    try:
        address = (await process.stdout.readline()).decode().split()[1]
        toml = directory / "spark.toml"
        toml.write_text((home / "spark.toml").read_text().replace("127.0.0.1:8000", address))
        settings = {"SPARK_DATABASE_URL": await new_database(postgres), "SPARK_CONFIG": str(toml)}
        async with (
            running("agent_service", **settings) as service,
            running("gateway", SPARK_AGENT_ADDRESS=service.address) as gateway,
        ):
            yield Agents(client.agent(service.address), client.gateway(gateway.address))
    finally:
        process.kill()
        await process.communicate()
