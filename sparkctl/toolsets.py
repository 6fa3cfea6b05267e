"""Tools from the outside: which there are, and how their servers stand."""

from collections.abc import Sequence
from datetime import datetime

from rich.table import Table
from rich.text import Text

from spark.agent.v1.agent_service_pb2 import ListToolsRequest
from spark.agent.v1.tool_pb2 import Tool, ToolSet, ToolSetState
from sparkctl.connections import AgentService
from sparkctl.words import age, brief, visible, word


async def listed(agent: AgentService) -> Sequence[ToolSet]:
    return (await agent.ask_again(agent.stub.ListTools, ListToolsRequest())).tool_sets


def table(sets: Sequence[ToolSet], now: datetime) -> Table:
    """A row for each tool; the first of a set says what is to be said of the set."""
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("SET", "STATE", "TOOL", "SAYS"):
        grid.add_column(heading)
    for one in sets:
        name, state = Text(visible(one.name)), Text(_state(one, now))
        for tool in one.tools or [Tool()]:
            grid.add_row(name, state, Text(visible(tool.name)), Text(_says(tool)))
            name, state = Text(), Text()
    return grid


def _state(one: ToolSet, now: datetime) -> str:
    state = word(ToolSetState.DESCRIPTOR, one.state)
    since = f" for {age(one.state_time, now)}" if one.HasField("state_time") else ""
    return f"{state}{since}: {brief(one.detail)}" if one.detail else state + since


def _says(tool: Tool) -> str:
    return f"left out: it {visible(tool.left_out)}" if tool.left_out else brief(tool.description)
