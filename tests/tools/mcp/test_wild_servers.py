"""A server that does what no server should costs a call one error, and is soon there again."""

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest

from agent_service.domain import ToolCall
from agent_service.settings import ToolConfig
from agent_service.tools import Toolbox
from agent_service.tools.mcp.tool_set import McpToolSet, supervised
from agent_service.tools.tool_set import SetState
from tests.support import until
from tests.tools.mcp.running import HURRIED, called, context, running, script, until_state, wild

LOST = "The tool server light was lost while the tool ran. Whether the tool has done anything is not known."
SOON_SECONDS, NEVER_SECONDS = 0.1, 3600.0


async def pid_of(one: McpToolSet) -> int:
    content, _ = await called(one, "pid")
    return int(content)


@pytest.mark.parametrize(
    ("doing", "reason"),
    [
        ("die", "exited with code 7"),
        ("giant", "sent a message of more than 4194304 bytes"),
        ("flood", "sent more than 1000 messages in a second"),
        ("maze", "sent more than 250000 lists and objects in a second"),
        ("nag", "sent more than 100 requests in a minute"),
    ],
)
async def test_a_server_that_breaks_in_a_call_costs_that_call_and_is_started_again(
    doing: str, reason: str
) -> None:
    async with wild(first_pause=1.0, longest_pause=1.0) as one:
        before = await pid_of(one)
        assert await called(one, doing) == (LOST, True)
        await until_state(one, SetState.DOWN)
        assert one.standing.detail == reason
        assert one.standing.since
        assert await called(one, "pid") == ("The tool server light is not running.", True)
        await until_state(one, SetState.UP)
        assert (one.standing.detail, await pid_of(one) == before) == ("", False)


async def test_a_server_that_is_killed_is_started_again() -> None:
    async with wild(first_pause=1.0, longest_pause=1.0) as one:
        before = await pid_of(one)
        os.kill(before, signal.SIGKILL)
        await until_state(one, SetState.DOWN)
        assert one.standing.detail == "was killed by signal 9"
        await until_state(one, SetState.UP)
        assert await pid_of(one) != before


async def test_a_set_that_is_down_offers_what_it_offered_last() -> None:
    async with wild(first_pause=NEVER_SECONDS, longest_pause=NEVER_SECONDS) as one:
        tools, offers = [tool.spec for tool in one.tools], one.standing.offers
        await called(one, "die")
        await until_state(one, SetState.DOWN)
        assert [tool.spec for tool in one.tools] == tools
        assert one.standing.offers == offers


async def test_words_on_stdout_that_are_no_messages_are_passed_over() -> None:
    async with wild() as one:
        assert await called(one, "noise") == ("quiet again", False)


async def test_half_a_character_is_replaced() -> None:
    async with wild() as one:
        assert await called(one, "half") == ("half a character: ?", False)
        assert not (await called(one, "pid", path="\ud83d"))[1]


async def test_a_result_that_makes_no_sense_is_an_error() -> None:
    async with wild() as one:
        assert await called(one, "nonsense") == ("The tool server light gave no valid answer.", True)
        assert not (await called(one, "pid"))[1]


@pytest.mark.parametrize("doing", ["stray", "scribble", "no_error"])
async def test_an_answer_that_is_none_costs_the_call_its_time_and_an_error(doing: str) -> None:
    async with wild() as one:
        box = Toolbox([], max_output_bytes=1000, timeout_seconds=SOON_SECONDS, sets=[one])
        response = await box.call(ToolCall("c1", f"light_{doing}", "{}"), box.specs(["light"]), context())
        assert response.content.startswith(f"The tool light_{doing} did not finish within 0.1 s")
        assert response.is_error
        assert not (await called(one, "pid"))[1]


@pytest.mark.parametrize(
    ("doing", "told"),
    [
        ("empty", ("[nothing was returned]", False)),
        ("figures", ('{"ships": 2}', False)),
        ("hologram", ("The tool server light gave no valid answer.", True)),
        ("ask", ("result error error error error", False)),
    ],
)
async def test_what_a_server_does_beside_the_usual_is_named_or_refused(
    doing: str, told: tuple[str, bool]
) -> None:
    async with wild() as one:
        assert await called(one, doing) == told
        assert not (await called(one, "pid"))[1]


async def test_progress_that_no_number_can_hold_costs_the_call_an_error() -> None:
    async with wild() as one:
        box = Toolbox([], max_output_bytes=1000, timeout_seconds=1, sets=[one])
        call = ToolCall("c1", "light_endless_number", "{}")
        assert (await box.call(call, box.specs(["light"]), context())).is_error

        async def answers() -> bool:
            return not (await called(one, "pid"))[1]

        await until(answers)


async def test_a_server_that_floods_stops_no_other() -> None:
    async with wild() as one, running(*script("keeper")) as other:
        flooding = asyncio.create_task(called(one, "flood"))
        assert await called(other, "echo", text="Still there?") == ("Still there?", False)
        assert (await flooding)[1]
        assert await called(other, "echo", text="And now?") == ("And now?", False)
        assert other.standing.state is SetState.UP


async def test_a_server_that_logs_without_an_end_can_be_talked_to() -> None:
    async with wild("chatty") as one:
        assert not (await called(one, "pid"))[1]


async def test_a_refusal_is_told_in_the_servers_words() -> None:
    async with wild() as one:
        assert await called(one, "refuse") == ("The tool server light refused the call: not today", True)


async def test_arguments_that_cannot_be_sent_are_an_error_and_harm_nobody_else() -> None:
    deep: list[object] = []
    for _ in range(300):
        deep = [deep]
    async with wild() as one:
        refused = "The tool server light cannot be called: the arguments are nested too deeply."
        assert await called(one, "pid", path=deep) == (refused, True)
        assert not (await called(one, "pid"))[1]


async def test_a_call_that_takes_too_long_is_cancelled_at_the_server(tmp_path: Path) -> None:
    async with wild() as one:
        box = Toolbox([], max_output_bytes=1000, timeout_seconds=SOON_SECONDS, sets=[one])
        note = tmp_path / "note"
        call = ToolCall("c1", "light_hang", json.dumps({"path": str(note)}))
        response = await box.call(call, box.specs(["light"]), context())
        assert response.content.startswith("The tool light_hang did not finish within 0.1 s")

        async def told() -> bool:
            return note.read_text() == "was told"

        await until(told)
        assert not (await called(one, "pid"))[1]


async def test_a_server_that_does_not_answer_any_more_is_started_again() -> None:
    async with wild(answer=SOON_SECONDS, poll=SOON_SECONDS) as one:
        before = await pid_of(one)
        await called(one, "freeze")
        await until_state(one, SetState.DOWN)
        assert one.standing.detail == "did not answer within 0.1 s"
        await until_state(one, SetState.UP)
        assert await pid_of(one) != before


async def test_a_server_that_is_busy_with_a_call_is_left_in_peace(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "until")
    async with wild(answer=0.01, poll=0.01) as one:
        calling = asyncio.create_task(called(one, "hold", path=str(tmp_path / "until")))
        # Opened as soon as the server holds it open, which it does in the call.
        fifo = await asyncio.to_thread(open, tmp_path / "until", "w")
        # By now it has been asked for its tools again and again.
        done, _ = await asyncio.wait({calling}, timeout=0.2)
        assert not done
        fifo.close()
        assert await calling == ("held", False)
        assert one.standing.state is SetState.UP


async def test_a_changed_list_of_tools_is_taken_in_when_the_server_tells() -> None:
    async with wild() as one:
        assert "light_new" not in [tool.spec.name for tool in one.tools]
        await called(one, "grow")
        await until_offered(one, "light_new")


async def test_a_changed_list_of_tools_is_found_when_the_server_tells_nothing() -> None:
    async with wild(poll=SOON_SECONDS) as one:
        await called(one, "grow_quietly")
        await until_offered(one, "light_new")


async def test_a_tool_that_becomes_invalid_is_left_out_at_once_and_its_server_stays_up() -> None:
    async with wild() as one:
        await called(one, "spoil")

        async def left_out() -> bool:
            return not one.tools

        await until(left_out)
        assert one.standing.state is SetState.UP
        reasons = {offer.left_out for offer in one.standing.offers}
        assert reasons == {"is not valid: inputSchema.type makes no sense"}


async def test_tools_that_make_no_sense_are_left_out_and_the_others_are_offered() -> None:
    async with wild("odd") as one:
        assert {offer.name: offer.left_out for offer in one.standing.offers if offer.left_out} == {
            "?": "is not valid: name makes no sense",
            "no_schema": "is not valid: inputSchema makes no sense",
            "text": "is not valid: inputSchema.type makes no sense",
            "typo": "has a schema that is none: $.properties.a.type makes no sense",
            "lost": "has a schema that refers to #/$defs/text, which is not in it",
            "icon": "is not valid: icons makes no sense",
            "found": "has the name of another tool",
        }
        names = [tool.spec.name for tool in one.tools]
        assert {"light_found", "light_riddle", "light_pid"} < set(names)
        for own_name in ("get.page", "größe", "a" * 100):
            [tool] = [tool for tool in one.tools if tool.own_name == own_name]
            assert len(tool.spec.name) <= 64
            assert (await tool.call({}, context())).content == own_name


async def test_a_result_is_not_held_against_a_schema_that_takes_for_ever() -> None:
    async with wild("odd") as one:
        assert await called(one, "riddle") == ("unsolved", False)


async def test_of_thousands_of_tools_some_are_offered() -> None:
    async with wild("many") as one:
        assert len(one.tools) == 100
        assert ("…", "stands for 4000 more") in [(it.name, it.left_out) for it in one.standing.offers]


async def test_a_list_that_changes_whenever_it_is_looked_at_is_looked_at_in_its_own_time() -> None:
    async with wild(rest=NEVER_SECONDS) as one:
        await called(one, "restless")
        counts = [int((await called(one, "restless"))[0]) for _ in range(20)]
        # At the start, and once more.
        assert counts[-1] <= 2


async def until_offered(one: McpToolSet, name: str) -> None:
    async def offered() -> bool:
        return name in [tool.spec.name for tool in one.tools]

    await until(offered)


async def test_a_server_has_a_few_variables_of_the_service_and_those_that_it_is_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SPARK_SECRET", "the key to the lamp")
    async with running(*script("wild"), env={"LAMP": "lit"}) as one:
        has = json.loads((await called(one, "environment"))[0])
    assert (has["LAMP"], has["PATH"]) == ("lit", os.environ["PATH"])
    assert "SPARK_SECRET" not in has


async def test_a_set_is_starting_until_its_server_is_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "until")
    one = McpToolSet("light", ToolConfig(command=script("wild", "slow", str(tmp_path / "until"))), HURRIED)
    async with supervised([one]):
        fifo = await asyncio.to_thread(open, tmp_path / "until", "w")
        assert (one.standing.state, one.tools) == (SetState.STARTING, ())
        calling = asyncio.create_task(called(one, "pid"))
        fifo.close()
        # A call waits for it.
        assert not (await calling)[1]
        assert one.standing.state is SetState.UP


async def test_nobody_waits_for_long_for_a_server_that_starts() -> None:
    async with wild("silent", ready=0.01) as one:
        assert await called(one, "pid") == ("The tool server light is not running.", True)
        assert one.standing.state is SetState.STARTING


async def test_a_server_that_does_not_come_up_is_down_with_the_reason() -> None:
    async with wild("silent", start=SOON_SECONDS) as one:
        assert (one.standing.state, one.standing.detail) == (SetState.DOWN, "did not start within 0.1 s")
    async with wild("babble") as one:
        assert one.standing.detail == "sent more than 1000 messages in a second"
    async with wild("broken") as one:
        assert one.standing.detail == "exited with code 3"
    async with running("/nowhere/at/all") as one:
        assert one.standing.detail == "cannot be started: No such file or directory"
    async with running("/") as one:
        assert one.standing.detail == "cannot be started: Permission denied"


async def held_by(one: McpToolSet, tool: str, directory: Path) -> asyncio.Task[str]:
    """Let a server hold on to a fifo. The task is done as soon as nothing of it is left."""
    fifo = directory / "held"
    os.mkfifo(fifo)
    left = asyncio.create_task(asyncio.to_thread(fifo.read_text))
    assert not (await called(one, tool, path=str(fifo)))[1]
    return left


async def test_the_end_of_the_service_is_the_end_of_a_server_and_of_all_that_it_started(
    tmp_path: Path,
) -> None:
    async with wild() as one:
        left = await held_by(one, "spawn", tmp_path)
    await left


async def test_a_server_that_does_not_want_to_stop_is_made_to(tmp_path: Path) -> None:
    async with wild("deaf") as one:
        left = await held_by(one, "clutch", tmp_path)
    await left


async def test_a_server_is_made_to_stop_when_nobody_waits_for_its_end_any_more(tmp_path: Path) -> None:
    one = McpToolSet("light", ToolConfig(command=script("wild", "deaf")), HURRIED)
    running = asyncio.create_task(one.run())
    await one.ready()
    left = await held_by(one, "clutch", tmp_path)
    one.stop()
    running.cancel()
    await asyncio.wait({running}, timeout=SOON_SECONDS)
    running.cancel()
    await asyncio.wait({running})
    await left
