"""A real MCP server on stdio that wants to know for whom a call is."""

from mcp.server import MCPServer
from mcp.server.mcpserver import Context

doorman = MCPServer("doorman", log_level="CRITICAL")


@doorman.tool()
def who(context: Context) -> str:
    """Tells the session that the call says it is for."""
    return str((context.request_context.meta or {}).get("spark/session_id"))


doorman.run()
