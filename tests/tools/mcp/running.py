"""Sets of tools with their servers running."""

import sys
from asyncio.subprocess import PIPE, Process, create_subprocess_exec
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

from agent_service.domain import SessionId
from agent_service.settings import ToolConfig
from agent_service.tools import ToolContext
from agent_service.tools.mcp.tool_set import McpToolSet, Timing, supervised
from agent_service.tools.tool_set import SetState
from tests.support import until

SERVERS = Path(__file__).parent.parent / "mcp_servers"
# Servers that have died are back soon, and nobody looks at one without being told to.
HURRIED = Timing(start=30, answer=30, poll=3600, rest=0, first_pause=0.01, longest_pause=0.05, ready=30)
NEVER_SECONDS = 3600


def script(name: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, str(SERVERS / f"{name}.py"), *arguments)


@asynccontextmanager
async def running(*command: str, **options: object) -> AsyncIterator[McpToolSet]:
    """A set called `light`, as soon as its server has been up or down for the first time. The options are
    those of its configuration and of its timing."""
    config = {name: value for name, value in options.items() if name in ToolConfig.model_fields}
    timing = {name: value for name, value in options.items() if name not in config}
    one = McpToolSet("light", ToolConfig(command=command, **config), replace(HURRIED, **timing))
    async with supervised([one]):
        await one.ready()
        yield one


@asynccontextmanager
async def wild(*start: str, **timing: float) -> AsyncIterator[McpToolSet]:
    async with running(*script("wild", *start), **timing) as one:
        yield one


async def called(one: McpToolSet, name: str, **arguments: object) -> tuple[str, bool]:
    """What a call brings, and whether that is an error."""
    outcome = await one.call(name, arguments, context())
    return outcome.content, outcome.is_error


def context(said: list[str] | None = None) -> ToolContext:
    """A context that keeps the progress that a tool tells."""
    return ToolContext(SessionId(uuid4()), "1.1.call", (said if said is not None else []).append)


async def until_state(one: McpToolSet, state: SetState) -> None:
    async def reached() -> bool:
        return one.standing.state is state

    await until(reached)


@asynccontextmanager
async def keeper_at(kind: str = "sse", port: int = 0) -> AsyncIterator[tuple[str, Process]]:
    """The keeper behind a URL, answering with events or with JSON."""
    process = await create_subprocess_exec(*script("keeper", kind, str(port)), stdout=PIPE)
    try:
        yield f"http://127.0.0.1:{int(await process.stdout.readline())}/mcp", process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
