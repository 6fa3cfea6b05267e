"""Everything that a run tortures: each process under a name, and each pair of them with a proxy between."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from tests.e2e.processes import Service, running
from tests.servers.postgres import reachable
from tests.servers.proxy import Proxy
from tests.support import until
from tests.torture.history import History
from tests.torture.model import ModelServer, model_server
from tests.torture.pair import Pair, pair
from tests.torture.script import CONTEXT_TOKENS, Script

AGENTS = ("agent-1", "agent-2", "agent-3")
GATEWAYS = ("gateway-1", "gateway-2")
LEASE_SECONDS, POLL_SECONDS = 2.0, 0.5
# Of what llama.cpp's server has as a context only so much is used: a byte or two are a token to its model.
TINY_TOKENS = 2048
# All start at once, perhaps on a busy machine.
START_SECONDS = 180.0

_HERE = Path(__file__).parent
_LLAMA = (str(_HERE.parent / "servers" / "llama.py"), "--port")
_TOOLS = (str(_HERE / "tool_server.py"),)
# Short, so that much happens in half a minute.
_SETTINGS = {
    "SPARK_LEASE_SECONDS": str(LEASE_SECONDS),
    "SPARK_POLL_SECONDS": str(POLL_SECONDS),
    "SPARK_DRAIN_SECONDS": "2",
    "SPARK_LOG_LEVEL": "warning",
    # Whoever is killed is to be back soon.
    "PYTHONDONTWRITEBYTECODE": "",
}

# By the names of who speaks and who listens. A database has a proxy for each of its servers.
Lines = dict[str, list[Proxy]]


@dataclass
class Member:
    """A service under its name, whichever process plays it. It keeps its port."""

    module: str
    settings: dict[str, str]
    log: TextIO
    # Where the product is.
    home: Path
    service: Service | None = None
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def start(self, **settings: str) -> None:
        """As a supervisor does it: again and again until it listens."""

        async def listens() -> bool:
            return await self._listens(settings)

        await until(listens, START_SECONDS)
        listen = f"SPARK_{self.module.removesuffix('_service').upper()}_LISTEN"
        self.settings[listen] = self.service.address

    async def _listens(self, settings: dict[str, str]) -> bool:
        settings = self.settings | settings
        process = running(self.module, self.log.fileno(), START_SECONDS, self.home, **settings)
        try:
            self.service = await self._stack.enter_async_context(process)
        except AssertionError:
            return False
        return True

    async def kill(self) -> None:
        await self._stack.aclose()

    @property
    def port(self) -> int:
        return int(self.service.address.rpartition(":")[2])


class Helper:
    """A script that serves: it takes its port as its last argument, and says where it listens. What it says
    after that is written down."""

    def __init__(self, history: History, *command: str) -> None:
        self._history, self._command = history, command
        self.port = 0

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, *self._command, str(self.port)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        async with asyncio.timeout(START_SECONDS):
            said = (await self._process.stdout.readline()).decode()
        self.port = int(said.split()[1].rpartition(":")[2])
        self._listening = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        async for line in self._process.stdout:
            self._history.write("ran", **json.loads(line))

    async def stop(self) -> None:
        """As kill -9 does."""
        self._process.kill()
        await self._listening
        await self._process.wait()


@dataclass(frozen=True)
class Fleet:
    services: dict[str, Member]
    postgres: Pair
    # What can be down and up again.
    models: dict[str, ModelServer | Helper]
    tools: Helper
    lines: Lines

    def doors(self, names: Iterable[str]) -> dict[str, str]:
        """Where clients reach these services."""
        return {name: f"127.0.0.1:{self.lines[f'clients>{name}'][0].port}" for name in names}


@asynccontextmanager
async def fleet(directory: Path, history: History, script: Script, home: Path) -> AsyncIterator[Fleet]:
    """Running, each with its log in the directory. The services are those of the product at its home."""
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        tasks = await enter(asyncio.TaskGroup())
        place = stack.enter_context(reachable())
        postgres = await enter(pair(place, list(AGENTS)))
        models = {"scripted": await enter(model_server(script, history))}
        models["tiny"] = await enter(_helper(history, *_LLAMA))
        tools = await enter(tool_server(history))
        lines: Lines = {}

        async def line(name: str, *ports: int) -> list[Proxy]:
            lines[name] = [Proxy(port, tasks) for port in ports]
            for made in lines[name]:
                await made.listen()
                stack.callback(_close, made)
            return lines[name]

        async def agent(name: str) -> Member:
            ports = [one.port for one in await line(f"{name}>postgres", *postgres.ports)]
            [scripted] = await line(f"{name}>scripted", models["scripted"].port)
            [tiny] = await line(f"{name}>tiny", models["tiny"].port)
            [marks] = await line(f"{name}>tools", tools.port)
            config = _spark_toml(directory / f"{name}.toml", scripted.port, tiny.port, marks.port)
            settings = {"SPARK_DATABASE_URL": _url(name, ports), "SPARK_CONFIG": config}
            return await enter(_member("agent_service", settings, directory / f"{name}.log", home))

        async def gateway(name: str) -> Member:
            ahead = [(await line(f"{name}>{one}", services[one].port))[0].port for one in AGENTS]
            settings = {"SPARK_AGENT_ADDRESS": "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in ahead)}
            return await enter(_member("gateway", settings, directory / f"{name}.log", home))

        services = dict(zip(AGENTS, await asyncio.gather(*map(agent, AGENTS)), strict=True))
        services |= zip(GATEWAYS, await asyncio.gather(*map(gateway, GATEWAYS)), strict=True)
        for name, member in services.items():
            await line(f"clients>{name}", member.port)
        yield Fleet(services, postgres, models, tools, lines)


@asynccontextmanager
async def _member(module: str, settings: dict[str, str], log: Path, home: Path) -> AsyncIterator[Member]:
    with log.open("w") as file:
        member = Member(module, _SETTINGS | settings, file, home)
        await member.start()
        try:
            yield member
        finally:
            await member.kill()


@asynccontextmanager
async def _helper(history: History, *command: str) -> AsyncIterator[Helper]:
    helper = Helper(history, *command)
    await helper.start()
    try:
        yield helper
    finally:
        await helper.stop()


def tool_server(history: History) -> AbstractAsyncContextManager[Helper]:
    """Serves by MCP a tool that says when it is run."""
    return _helper(history, *_TOOLS)


def _close(proxy: Proxy) -> None:
    proxy.refuse()
    proxy.flow()


def _url(user: str, ports: Iterable[int]) -> str:
    hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
    return f"postgresql://{user}@{hosts}/postgres?target_session_attrs=read-write"


def _spark_toml(path: Path, scripted: int, tiny: int, marks: int) -> str:
    path.write_text(
        f"""[models.scripted]
base_url = "http://127.0.0.1:{scripted}/v1"
model = "scripted"
context_window = {CONTEXT_TOKENS}
placement = "system"
[models.tiny]
base_url = "http://127.0.0.1:{tiny}/v1"
model = "tiny"
context_window = {TINY_TOKENS}
[tools.marks]
url = "http://127.0.0.1:{marks}/mcp"
timeout_seconds = 5
"""
    )
    return str(path)
