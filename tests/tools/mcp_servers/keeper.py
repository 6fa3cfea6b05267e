"""A lighthouse keeper: a real MCP server, on stdio, or with the argument `http` on a port that it prints."""

import asyncio
import base64
import os
import socket
import sys
from pathlib import Path

import uvicorn
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import (
    AudioContent,
    BlobResourceContents,
    CallToolResult,
    EmbeddedResource,
    ImageContent,
    ResourceLink,
    TextContent,
    TextResourceContents,
    ToolAnnotations,
)

keeper = MCPServer("keeper", log_level="CRITICAL")
LOOKS = ToolAnnotations(read_only_hint=True)


@keeper.tool(annotations=LOOKS)
def echo(text: str) -> CallToolResult:
    """Says the same again."""
    return CallToolResult(content=[TextContent(text=text)])


@keeper.tool(annotations=ToolAnnotations(read_only_hint=False, idempotent_hint=True))
def light() -> str:
    return "lit"


@keeper.tool()
def ships() -> CallToolResult:
    return CallToolResult(content=[], structured_content={"ships": ["Ärgo", "Beagle"]})


@keeper.tool()
def see() -> CallToolResult:
    png, ogg = base64.b64encode(b"a" * 100).decode(), base64.b64encode(b"a" * 10).decode()
    return CallToolResult(
        content=[
            TextContent(text="Look:"),
            ImageContent(data=png, mime_type="image/png"),
            AudioContent(data=ogg, mime_type="audio/ogg"),
            ResourceLink(name="log", uri="file:///log.txt", mime_type="text/plain"),
            EmbeddedResource(resource=TextResourceContents(uri="file:///log.txt", text="All is well.")),
            EmbeddedResource(resource=BlobResourceContents(uri="file:///chart.bin", blob=ogg)),
        ]
    )


@keeper.tool()
async def climb(context: Context, steps: int) -> str:
    for step in range(1, steps + 1):
        await context.report_progress(step, steps, f"step {step}")
    return "at the top"


@keeper.tool()
def stumble() -> str:
    raise ToolError("The stairs are wet.")


@keeper.tool()
async def wait_for_ever(context: Context, path: str) -> str:
    await context.report_progress(1, 2, "waiting")
    try:
        await asyncio.Event().wait()
    finally:
        stopped(path)
    return "never"


def stopped(path: str) -> None:
    Path(path).write_text("stopped")


@keeper.tool()
async def learn(context: Context) -> str:
    keeper.add_tool(stumble, name="whistle", description="New.")
    await context.notify_tools_changed()
    return "learned"


@keeper.tool()
def shout() -> str:
    return "a" * 5_000_000


@keeper.tool()
def die() -> str:
    os._exit(9)


if sys.argv[1:] == []:
    keeper.run()
else:
    listening = socket.create_server(("127.0.0.1", int(sys.argv[2])))
    print(listening.getsockname()[1], flush=True)
    app = keeper.streamable_http_app(json_response=sys.argv[1] == "json")
    uvicorn.Server(uvicorn.Config(app, log_level="critical")).run(sockets=[listening])
