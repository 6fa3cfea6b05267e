"""The two services as child processes of this one."""

import asyncio
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import NoReturn, TypeAlias

from sparkctl.connections import Addresses
from sparkctl.failures import CommandFailed

_STOP_SECONDS = 60
_LONGEST_LOG_LINE = 1024 * 1024


# Takes the name of a service and a line that it logged.
Log: TypeAlias = Callable[[str, str], None]


class ServiceDied(CommandFailed):
    """A service ended by itself."""


@dataclass(frozen=True, slots=True)
class Service:
    name: str
    address: str
    process: Process


@dataclass(frozen=True, slots=True)
class Services:
    agent: Service
    gateway: Service

    @property
    def addresses(self) -> Addresses:
        return Addresses(self.agent.address, self.gateway.address)

    async def until_one_dies(self) -> NoReturn:
        """Raises ServiceDied."""
        waits = {
            asyncio.create_task(service.process.wait()): service for service in (self.agent, self.gateway)
        }
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        dead = waits[done.pop()]
        raise ServiceDied(f"the {dead.name} {_end(dead.process)}")


@asynccontextmanager
async def services(environment: Mapping[str, str], log: Log) -> AsyncIterator[Services]:
    """Both services, listening. At the exit they stop in the reverse order, each with SIGTERM."""
    async with AsyncExitStack() as stack:
        agent = await stack.enter_async_context(_service("agent service", "agent_service", environment, log))
        towards_agent = {**environment, "SPARK_AGENT_ADDRESS": agent.address}
        gateway = await stack.enter_async_context(_service("gateway", "gateway", towards_agent, log))
        yield Services(agent, gateway)


@asynccontextmanager
async def _service(
    name: str, module: str, environment: Mapping[str, str], log: Log
) -> AsyncIterator[Service]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
        env=environment,
        limit=_LONGEST_LOG_LINE,
        # A process group of its own: a Ctrl-C at the terminal must not reach it beside our SIGTERM.
        start_new_session=True,
    )
    assert process.stdout
    assert process.stderr
    passing_on = [asyncio.create_task(_pass_on(process.stderr, name, log))]
    try:
        address = await _listening(process, process.stdout, name)
        passing_on.append(asyncio.create_task(_pass_on(process.stdout, name, log)))
        yield Service(name, address, process)
    finally:
        await _stop(process)
        # What the process started itself may hold its pipes for longer.
        await asyncio.wait(passing_on, timeout=1)
        for task in passing_on:
            task.cancel()


async def _listening(process: Process, stdout: asyncio.StreamReader, name: str) -> str:
    line = (await stdout.readline()).decode(errors="replace").strip()
    if not line:
        await process.wait()
        raise ServiceDied(f"the {name} {_end(process)} before it was listening")
    what, _, address = line.partition(" ")
    if what != "listening":
        raise CommandFailed(f"the {name} does not say where it listens")
    return address


async def _pass_on(stream: asyncio.StreamReader, name: str, log: Log) -> None:
    """To the end, whatever becomes of the lines: a service whose words nobody takes would stand still."""
    async for line in stream:
        with suppress(OSError):
            log(name, line.decode(errors="replace").rstrip("\n"))


async def _stop(process: Process) -> None:
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(_STOP_SECONDS):
                await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def _end(process: Process) -> str:
    code = process.returncode
    if code is None or code >= 0:
        return f"stopped with exit code {code}"
    return f"was killed by signal {-code} ({signal.strsignal(-code)})"
