"""A server's list of tools, so that the package can read it: by itself it takes a list whole or not at all.

This stands where messages come in. A tool that is not valid is replaced by one that is, and that says so, for
whoever looks for the mark. Pure.
"""

from collections.abc import Mapping
from dataclasses import replace

from mcp.shared.message import SessionMessage
from mcp.types import JSONRPCResponse, Tool
from mcp.types.methods import validate_server_result
from pydantic import ValidationError

from agent_service.domain import Json, JsonObject

MAX_A_PAGE = 1000

_MARK = "spark/left_out"
# Of the version of the protocol that is strictest about tools.
_VERSION = "2025-11-25"


def readable(message: SessionMessage) -> SessionMessage:
    match message.message:
        case JSONRPCResponse(result={"tools": list() as tools}) as response:
            readable_tools = [_readable(tool) for tool in tools[:MAX_A_PAGE]]
            if more := tools[MAX_A_PAGE:]:
                readable_tools.insert(0, placeholder("…", f"stands for {len(more)} more"))
            result = {**response.result, "tools": readable_tools}
            return replace(message, message=response.model_copy(update={"result": result}))
        case _:
            return message


def placeholder(name: str, left_out: str) -> JsonObject:
    """Stands for a tool that is left out for a reason."""
    return {"name": name, "inputSchema": {"type": "object"}, "_meta": {_MARK: left_out}}


def left_out(tool: Tool) -> str:
    """Why a tool is left out, if it is."""
    return str((tool.meta or {}).get(_MARK, ""))


def _readable(tool: Json) -> JsonObject:
    try:
        validate_server_result("tools/list", _VERSION, {"tools": [tool]})
    except ValidationError as error:
        place = ".".join(str(part) for part in error.errors()[0]["loc"][2:])
        return placeholder(_name(tool), f"is not valid: {place} makes no sense" if place else "is not valid")
    assert isinstance(tool, Mapping)
    # The package would hold results against it, in its own time: a pattern in it can take for ever.
    return {key: value for key, value in tool.items() if key != "outputSchema"}


def _name(tool: Json) -> str:
    name = tool.get("name") if isinstance(tool, Mapping) else None
    return name if isinstance(name, str) else "?"
