"""Servers that people use, and one of the package's own make, on both transports."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from agent_service.tools.mcp.tool_set import McpToolSet
from agent_service.tools.tool_set import SetState
from tests.servers.pages import page_server
from tests.support import until
from tests.tools.mcp.running import called, context, keeper_at, running, script, until_state

# The keepers live as long as the module.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@asynccontextmanager
async def keeper_on(transport: str) -> AsyncIterator[McpToolSet]:
    if transport == "stdio":
        async with running(*script("keeper")) as one:
            yield one
    else:
        async with keeper_at(transport) as (url, _), running(url=url) as one:
            yield one


@pytest_asyncio.fixture(params=["stdio", "sse"], scope="module", loop_scope="module")
async def keeper(request: pytest.FixtureRequest) -> AsyncIterator[McpToolSet]:
    async with keeper_on(request.param) as one:
        yield one


async def test_tools_are_offered_under_the_name_of_their_set_with_their_schemas(keeper: McpToolSet) -> None:
    assert keeper.standing.state is SetState.UP
    names = [tool.spec.name for tool in keeper.tools]
    assert names == sorted(names)
    echo = next(tool for tool in keeper.tools if tool.spec.name == "light_echo")
    assert echo.spec.description == "Says the same again."
    assert json.loads(json.dumps(echo.spec.parameters))["properties"]["text"]["type"] == "string"
    assert json.loads(json.dumps(echo.spec.parameters))["required"] == ["text"]


async def test_what_a_server_says_is_safe_to_repeat_is_repeatable(keeper: McpToolSet) -> None:
    repeatable = {tool.spec.name for tool in keeper.tools if tool.traits.repeatable}
    assert repeatable == {"light_echo", "light_light"}
    assert all(tool.traits.cancellable for tool in keeper.tools)


async def test_results_are_text_errors_included(keeper: McpToolSet) -> None:
    assert await called(keeper, "echo", text="Ahoi, Ärgo") == ("Ahoi, Ärgo", False)
    assert await called(keeper, "ships") == ('{"ships": ["Ärgo", "Beagle"]}', False)
    assert await called(keeper, "stumble") == ("Error executing tool stumble: The stairs are wet.", True)
    content, is_error = await called(keeper, "echo")
    assert is_error
    assert "text" in content


async def test_what_is_no_text_is_named(keeper: McpToolSet) -> None:
    content, _ = await called(keeper, "see")
    assert content.splitlines() == [
        "Look:",
        "[image, image/png, 100 bytes: not shown]",
        "[audio, audio/ogg, 10 bytes: not shown]",
        "[resource, text/plain, file:///log.txt: not shown]",
        "[resource, file:///log.txt]",
        "All is well.",
        "[resource, file:///chart.bin, 10 bytes: not shown]",
    ]


async def test_progress_is_told_while_a_tool_runs(keeper: McpToolSet) -> None:
    said: list[str] = []
    outcome = await keeper.call("climb", {"steps": 3}, context(said))
    assert outcome.content == "at the top"
    assert said == ["1 of 3: step 1", "2 of 3: step 2", "3 of 3: step 3"]


async def test_a_call_that_is_cancelled_is_cancelled_at_the_server(
    keeper: McpToolSet, tmp_path: Path
) -> None:
    said: list[str] = []
    arguments = {"path": str(tmp_path / "stopped")}
    calling = asyncio.create_task(keeper.call("wait_for_ever", arguments, context(said)))

    async def runs() -> bool:
        return said == ["1 of 2: waiting"]

    async def stopped() -> bool:
        return (tmp_path / "stopped").exists()

    await until(runs)
    calling.cancel()
    await until(stopped)
    assert await called(keeper, "echo", text="Still there?") == ("Still there?", False)


@pytest.mark.parametrize("transport", ["stdio", "sse"])
async def test_a_changed_list_of_tools_is_taken_in(transport: str) -> None:
    async with keeper_on(transport) as keeper:
        await called(keeper, "learn")

        async def offered() -> bool:
            return "light_whistle" in [tool.spec.name for tool in keeper.tools]

        await until(offered)


@pytest.mark.parametrize("transport", ["sse", "json"])
async def test_a_result_beyond_all_measure_is_an_error_and_no_more(transport: str) -> None:
    async with keeper_on(transport) as keeper:
        assert (await called(keeper, "shout"))[1]
        assert await called(keeper, "echo", text="Still there?") == ("Still there?", False)
        assert keeper.standing.state is SetState.UP


async def test_a_server_behind_a_url_that_dies_is_found_again_when_it_is_back() -> None:
    async with keeper_at() as (url, _), running(url=url, poll=0.1) as one:
        assert (await called(one, "die"))[1]
        await until_state(one, SetState.DOWN)
        assert await called(one, "echo", text="?") == ("The tool server light is not running.", True)
        async with keeper_at(port=int(url.rpartition(":")[2].partition("/")[0])):
            await until_state(one, SetState.UP)
            assert await called(one, "echo", text="!") == ("!", False)


async def test_mcp_server_time_tells_the_time() -> None:
    async with running(sys.executable, "-m", "mcp_server_time") as one:
        assert [tool.spec.name for tool in one.tools] == ["light_convert_time", "light_get_current_time"]
        content, is_error = await called(one, "get_current_time", timezone="Asia/Kolkata")
    assert not is_error
    assert json.loads(content)["datetime"].endswith("+05:30")


async def test_mcp_server_fetch_reads_a_page() -> None:
    async with (
        page_server({"/harbour": "<h1>Harbour</h1><p>Two ships are due.</p>"}) as url,
        running(sys.executable, "-m", "mcp_server_fetch", "--allow-private-ips") as one,
    ):
        content, is_error = await called(one, "fetch", url=f"{url}/harbour")
        assert not is_error
        assert "Two ships are due." in content
        content, is_error = await called(one, "fetch", url=f"{url}/nowhere")
        assert is_error
        assert "404" in content


async def test_mcp_server_fetch_refuses_what_is_private_unless_told_otherwise() -> None:
    async with page_server({"/": "secret"}) as url, running(sys.executable, "-m", "mcp_server_fetch") as one:
        content, is_error = await called(one, "fetch", url=url)
    assert is_error
    assert "secret" not in content
