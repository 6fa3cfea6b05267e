"""What a server offers as models and people are shown it. Pure: the same tool has the same name for ever."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from mcp import types

from agent_service.domain import cut
from agent_service.model import ToolSpec
from agent_service.tools.mcp import listing, schemas
from agent_service.tools.tool_set import Offer

MAX_TOOLS = 100
MAX_NAME_LENGTH = 64
MAX_DESCRIPTION_BYTES = 4 * 1024
MAX_REASON_LENGTH = 200
# How many of a list are looked at.
MAX_LISTED = 2 * MAX_TOOLS

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

    offered: tuple[Offered, ...] = ()
    left_out: tuple[Offer, ...] = ()


def offers(set_name: str, tools: Sequence[types.Tool]) -> Offers:
    """May take seconds: schemas are checked."""
    offered: dict[str, Offered] = {}
    left_out: list[Offer] = []
    for tool in tools[:MAX_LISTED]:
        name, description = offered_name(set_name, tool.name), _description(tool)
        if reason := _unfit(tool, taken=name in offered, full=len(offered) >= MAX_TOOLS):
            own_name = _clean(tool.name)[:MAX_NAME_LENGTH]
            left_out.append(Offer(own_name, description, _clean(reason)[:MAX_REASON_LENGTH]))
        else:
            offered[name] = Offered(
                tool.name, ToolSpec(name, description, tool.input_schema), _repeatable(tool)
            )
    if (more := len(tools) - MAX_LISTED) > 0:
        left_out.append(Offer("…", "", f"stands for {more} more"))
    return Offers(tuple(offered[name] for name in sorted(offered)), tuple(left_out))


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
    if reason := listing.left_out(tool):
        return reason
    if taken:
        return "has the name of another tool"
    if full:
        return f"is beyond the {MAX_TOOLS} tools that are offered of one server"
    return schemas.problem(tool.input_schema)


def _description(tool: types.Tool) -> str:
    return cut(_clean(tool.description or tool.title or ""), MAX_DESCRIPTION_BYTES)


def _repeatable(tool: types.Tool) -> bool:
    hints = tool.annotations
    return hints is not None and bool(hints.read_only_hint or hints.idempotent_hint)


def _clean(text: str) -> str:
    return _NOT_IN_TEXT.sub("\ufffd", text)
