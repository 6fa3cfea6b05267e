"""What a server offers as models and people are shown it. Pure: the same tool has the same name for ever."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from mcp import types

from agent_service.domain import cut
from agent_service.model import ToolSpec
from agent_service.tools.tool_set import Offer

MAX_TOOLS = 100
MAX_NAME_LENGTH = 64
MAX_DESCRIPTION_BYTES = 4 * 1024
MAX_SCHEMA_BYTES = 16 * 1024

_NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9_-]")
_NOT_IN_TEXT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_HASH_LENGTH = 8


@dataclass(frozen=True, slots=True)
class Offered:
    """A tool by the server's own name for it, and what a model is told of it."""

    own_name: str
    spec: ToolSpec
    # Its server says that it may run again without harm.
    repeatable: bool


@dataclass(frozen=True, slots=True)
class Offers:
    """By name, so that a server that lists its tools in another order changes nothing."""

    offered: tuple[Offered, ...]
    left_out: tuple[Offer, ...]


def offers(set_name: str, tools: Sequence[types.Tool]) -> Offers:
    offered: dict[str, Offered] = {}
    left_out: list[Offer] = []
    for tool in tools:
        name, description = offered_name(set_name, tool.name), _description(tool)
        if reason := _unfit(tool, taken=name in offered, full=len(offered) >= MAX_TOOLS):
            left_out.append(Offer(_clean(tool.name)[:MAX_NAME_LENGTH], description, reason))
        else:
            offered[name] = Offered(
                tool.name, ToolSpec(name, description, tool.input_schema), _repeatable(tool)
            )
    return Offers(tuple(offered[name] for name in sorted(offered)), tuple(left_out[:MAX_TOOLS]))


def offered_name(set_name: str, own_name: str) -> str:
    """The name by which models call a tool: the set's and the tool's own. Where that is too long, or has what
    names may not have, a hash of the tool's own keeps it apart from others."""
    name = f"{set_name}_{_NOT_IN_NAMES.sub('_', own_name)}"
    if name == f"{set_name}_{own_name}" and len(name) <= MAX_NAME_LENGTH:
        return name
    digest = hashlib.sha256(own_name.encode(errors="surrogatepass")).hexdigest()[:_HASH_LENGTH]
    return f"{name[: MAX_NAME_LENGTH - _HASH_LENGTH - 1]}_{digest}"


def _unfit(tool: types.Tool, taken: bool, full: bool) -> str:
    """Why a tool cannot be offered, if it cannot."""
    if taken:
        return "has the name of another tool"
    if full:
        return f"is beyond the {MAX_TOOLS} tools that are offered of one server"
    if tool.input_schema.get("type") != "object":
        return "has a schema that is not one of an object"
    size = len(json.dumps(tool.input_schema))
    if size > MAX_SCHEMA_BYTES:
        return f"has a schema of {size} bytes, more than {MAX_SCHEMA_BYTES}"
    return ""


def _description(tool: types.Tool) -> str:
    return cut(_clean(tool.description or tool.title or ""), MAX_DESCRIPTION_BYTES)


def _repeatable(tool: types.Tool) -> bool:
    hints = tool.annotations
    return hints is not None and bool(hints.read_only_hint or hints.idempotent_hint)


def _clean(text: str) -> str:
    return _NOT_IN_TEXT.sub("\ufffd", text)
