"""A set of tools that a test gives and takes."""

import asyncio

from agent_service.tools import Tool
from agent_service.tools.tool_set import SetKind, SetState, Standing

DOWN = Standing("light", SetKind.MCP, SetState.DOWN, detail="exited with code 1")


class Light:
    name, standing = "light", DOWN

    def __init__(self, *tools: Tool) -> None:
        self.tools = tools
        self.asked, self.started = asyncio.Event(), asyncio.Event()

    async def ready(self) -> None:
        self.asked.set()
        await self.started.wait()
