"""The optimizer as a child process of the story, which may kill it."""

import asyncio
import socket
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

from sparkctl.failures import CommandFailed


class Optimizer:
    """Not started yet. It listens at the same port after each start."""

    def __init__(self, environment: Mapping[str, str], log: Callable[[str], None]) -> None:
        self._address = f"127.0.0.1:{_free_port()}"
        self._environment = {**environment, "OPTIMIZER_LISTEN": self._address}
        self._log = log
        self._process: Process | None = None
        self._logging: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        return f"http://{self._address}/mcp"

    async def start(self, gateway_address: str) -> None:
        """Return when it listens. Raises CommandFailed."""
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "examples.optimizer"),
            env={**self._environment, "SPARK_GATEWAY_ADDRESS": gateway_address},
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=PIPE,
        )
        assert self._process.stdout
        assert self._process.stderr
        self._logging = asyncio.create_task(self._pass_on(self._process.stderr))
        if not (await self._process.stdout.readline()).startswith(b"listening"):
            raise CommandFailed("the optimizer does not start")

    async def kill(self) -> None:
        """As kill -9 does."""
        if self._process and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        if self._logging:
            await self._logging

    async def _pass_on(self, output: asyncio.StreamReader) -> None:
        async for line in output:
            self._log(line.decode(errors="replace").rstrip())


@asynccontextmanager
async def optimizer(environment: Mapping[str, str], log: Callable[[str], None]) -> AsyncIterator[Optimizer]:
    one = Optimizer(environment, log)
    try:
        yield one
    finally:
        await one.kill()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port
