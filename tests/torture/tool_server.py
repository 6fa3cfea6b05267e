"""An MCP server whose tool leaves a mark. `python tool_server.py PORT` says each run of it on stdout."""

import json
import socket
import sys

import uvicorn
from mcp.server import MCPServer

server = MCPServer("torture", log_level="CRITICAL")


@server.tool()
def mark(session: str, call_id: str) -> str:
    """Leaves a mark."""
    # At once: another run of it may be in another thread.
    said = json.dumps({"tool": "mark", "session": session, "call_id": call_id})
    print(f"{said}\n", end="", flush=True)
    return f"marked {call_id}"


listening = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("listening", listening.getsockname()[1], flush=True)
app = server.streamable_http_app(json_response=True)
uvicorn.Server(uvicorn.Config(app, log_level="critical")).run(sockets=[listening])
