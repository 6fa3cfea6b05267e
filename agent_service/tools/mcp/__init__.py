"""Sets of tools from MCP servers: a command that speaks over stdio, or a URL of Streamable HTTP."""
