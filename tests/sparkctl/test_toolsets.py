from io import StringIO

from rich.console import Console

from spark.agent.v1.tool_pb2 import Tool, ToolSet
from sparkctl import toolsets
from tests.sparkctl.events import at
from tests.sparkctl.scripted import Broken

SETS = [
    ToolSet(
        name="built-in",
        state="TOOL_SET_STATE_UP",
        tools=[Tool(name="now", description="Tells the time."), Tool(name="note", description="Notes.")],
    ),
    ToolSet(
        name="web",
        state="TOOL_SET_STATE_DOWN",
        state_time=at(10),
        detail="exited with code 1",
        tools=[
            Tool(name="web_fetch", description="[red]Fetches\n\x1b[2Ja page."),
            Tool(name="bad.tool", left_out="has no schema"),
        ],
    ),
    ToolSet(name="log", state="TOOL_SET_STATE_STARTING", state_time=at(69)),
]


async def test_a_listing_is_asked_for_again_while_the_service_is_away(scripted, agent):
    scripted.agent.tool_sets = SETS
    scripted.agent.failures = [Broken()]

    assert list(await toolsets.listed(agent)) == SETS


def test_the_table_says_how_each_set_stands_and_what_it_offers():
    console = Console(file=StringIO(), width=200)
    console.print(toolsets.table(SETS, at(70).ToDatetime().astimezone()))

    lines = [" ".join(line.split()) for line in console.file.getvalue().splitlines()]
    assert lines == [
        "SET STATE TOOL SAYS",
        "built-in up now Tells the time.",
        "note Notes.",
        "web down for 60 s: exited with code 1 web_fetch [red]Fetches \N{REPLACEMENT CHARACTER}[2Ja page.",
        "bad.tool left out: it has no schema",
        "log starting for 1 s",
    ]
