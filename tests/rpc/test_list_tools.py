from datetime import UTC, datetime

from agent_service.rpc.convert.tool import tool_set_proto
from agent_service.tools.tool_set import Offer, SetKind, SetState, Standing
from spark.agent.v1.agent_service_pb2 import ListToolsRequest
from spark.agent.v1.tool_pb2 import TOOL_SET_KIND_BUILT_IN, TOOL_SET_STATE_UP, Tool, ToolSet
from tests.rpc.conftest import Door


async def test_the_tools_that_are_built_in_are_a_set(door: Door) -> None:
    [built_in] = (await door.stub.ListTools(ListToolsRequest())).tool_sets
    assert (built_in.name, built_in.kind, built_in.state) == (
        "built-in",
        TOOL_SET_KIND_BUILT_IN,
        TOOL_SET_STATE_UP,
    )
    assert not built_in.HasField("state_time")
    assert [tool.name for tool in built_in.tools] == ["now", "wait", "note"]
    assert all(tool.description and not tool.left_out for tool in built_in.tools)


def test_a_set_is_told_with_its_state_and_what_is_left_out() -> None:
    noon = datetime(2026, 3, 4, 12, tzinfo=UTC)
    offers = (Offer("web_fetch", "é" * 3000), Offer("bad", "", "has no schema"))
    standing = Standing("web", SetKind.MCP, SetState.DOWN, noon, "exited with code 1", offers)
    expected = ToolSet(
        name="web",
        kind="TOOL_SET_KIND_MCP",
        state="TOOL_SET_STATE_DOWN",
        detail="exited with code 1",
        tools=[Tool(name="web_fetch", description="é" * 1000), Tool(name="bad", left_out="has no schema")],
    )
    expected.state_time.FromDatetime(noon)
    assert tool_set_proto(standing) == expected
