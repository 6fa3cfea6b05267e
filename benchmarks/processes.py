"""Processes that are measured, and channels to them."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, create_subprocess_exec
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc

_NO_PROXY = (("grpc.enable_http_proxy", 0),)


# As long as a service may take to drain, and more.
PATIENCE_SECONDS = 60


class Died(Exception):
    """A process ended before it was listening."""


class Stuck(Exception):
    """A process did not end when it was told to."""


@dataclass(frozen=True, slots=True)
class Process:
    address: str
    process: asyncio.subprocess.Process

    async def kill(self) -> None:
        """As kill -9 does: nothing of it gets a chance to say goodbye."""
        self.process.kill()
        await self.process.wait()

    async def line(self) -> str:
        """What it says next on stdout."""
        assert self.process.stdout
        return (await self.process.stdout.readline()).decode().strip()


@asynccontextmanager
async def running(directory: Path, module: str, *arguments: str, **settings: str) -> AsyncIterator[Process]:
    """Run a module that says where it listens, with these settings of Spark and no others.

    What it logs goes into the directory. Raises Died, Stuck.
    """
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
        yield Process(line.removeprefix("listening ").strip(), process)
    finally:
        if process.returncode is None:
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), PATIENCE_SECONDS)
        except TimeoutError:
            process.kill()
            raise Stuck(module) from None


def channel(address: str) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(address, options=_NO_PROXY)
