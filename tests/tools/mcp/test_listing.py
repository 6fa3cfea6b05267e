import pytest
from mcp.shared.message import SessionMessage
from mcp.types import JSONRPCNotification, JSONRPCResponse, ListToolsResult
from mcp.types.methods import validate_server_result

from agent_service.tools.mcp.listing import MAX_A_PAGE, left_out, readable

ANY = {"type": "object"}
FETCH = {
    "name": "fetch",
    "description": "Fetches.",
    "inputSchema": ANY,
    "annotations": {"readOnlyHint": True},
}
OF_2026 = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"}


def read(*tools: object, **more: object) -> dict:
    """The result with the tools, as it is passed on."""
    message = JSONRPCResponse(jsonrpc="2.0", id=1, result={"tools": list(tools), **more})
    return readable(SessionMessage(message)).message.result


def test_what_is_valid_is_left_as_it_is() -> None:
    assert read(FETCH, nextCursor="b") == {"tools": [FETCH], "nextCursor": "b"}


@pytest.mark.parametrize(
    ("tool", "name", "reason"),
    [
        ("fetch", "?", "is not valid"),
        ({"name": 7, "inputSchema": ANY}, "?", "is not valid: name makes no sense"),
        ({"name": "fetch"}, "fetch", "is not valid: inputSchema makes no sense"),
        (
            {"name": "fetch", "inputSchema": {"type": "string"}},
            "fetch",
            "is not valid: inputSchema.type makes no sense",
        ),
        ({**FETCH, "icons": "a lamp"}, "fetch", "is not valid: icons makes no sense"),
        ({**FETCH, "description": ["a"]}, "fetch", "is not valid: description makes no sense"),
    ],
)
@pytest.mark.parametrize("version", ["2024-11-05", "2025-11-25", "2026-07-28"])
def test_a_tool_that_is_not_valid_costs_the_others_nothing(
    version: str, tool: object, name: str, reason: str
) -> None:
    result = read(tool, FETCH, **OF_2026)
    validate_server_result("tools/list", version, result)
    bad, good = ListToolsResult.model_validate(result).tools
    assert (bad.name, left_out(bad)) == (name, reason)
    assert (good.name, left_out(good)) == ("fetch", "")


def test_results_are_not_held_against_a_schema() -> None:
    assert read({**FETCH, "outputSchema": {"type": "object"}}) == {"tools": [FETCH]}


def test_of_a_page_without_an_end_the_beginning_is_read() -> None:
    rest, *tools = read(*[FETCH] * (MAX_A_PAGE + 7))["tools"]
    assert tools == [FETCH] * MAX_A_PAGE
    assert rest["_meta"] == {"spark/left_out": "stands for 7 more"}


@pytest.mark.parametrize(
    "message",
    [
        JSONRPCResponse(jsonrpc="2.0", id=1, result={"content": []}),
        JSONRPCResponse(jsonrpc="2.0", id=1, result={"tools": "none"}),
        JSONRPCNotification(jsonrpc="2.0", method="notifications/message", params={"tools": ["a"]}),
    ],
)
def test_everything_else_is_passed_on(message: object) -> None:
    passed = SessionMessage(message)
    assert readable(passed) is passed
