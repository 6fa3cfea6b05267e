import asyncio
import json
from collections.abc import Callable

import pytest

from agent_service.domain import JsonObject, ToolCall, ToolResponse
from agent_service.model import ToolSpec
from agent_service.tools import Tool, Toolbox, ToolContext, ToolOutcome, Traits
from agent_service.tools.wait import Wait
from tests.tools.held import CONTEXT, UNDECLARED, Held

MAX_OUTPUT_BYTES = 100
NEVER_SECONDS = 3600
SOON_SECONDS = 0.01


class Act:
    """A tool that does what the test says."""

    def __init__(self, name: str, act: Callable[[JsonObject], str], traits: Traits = UNDECLARED) -> None:
        self.spec, self.traits = ToolSpec(name, "", {"type": "object"}), traits
        self._act = act

    async def call(self, arguments: JsonObject, context: ToolContext) -> ToolOutcome:
        return ToolOutcome(self._act(arguments))


def fail(arguments: JsonObject) -> str:
    raise KeyError("a secret")


def toolbox(act: Callable[[JsonObject], str] = json.dumps) -> Toolbox:
    return box_of(Act("act", act), Act("rest", json.dumps))


def box_of(*tools: Tool, timeout_seconds: float = NEVER_SECONDS, grace_seconds: float = 30) -> Toolbox:
    return Toolbox(tools, MAX_OUTPUT_BYTES, timeout_seconds, grace_seconds)


async def called(
    box: Toolbox,
    arguments_json: str = "{}",
    name: str = "act",
    offered: tuple[str, ...] = ("act",),
    max_bytes: int | None = None,
) -> ToolResponse:
    return await box.call(ToolCall("c1", name, arguments_json), box.specs(offered), CONTEXT, max_bytes)


async def test_a_response_carries_the_call_that_it_answers() -> None:
    assert await called(toolbox(), '{"a": 1}') == ToolResponse("c1", "act", '{"a": 1}', is_error=False)


def test_the_tools_offered_are_those_named_or_all() -> None:
    box = toolbox()
    assert [spec.name for spec in box.specs(["rest", "unknown"])] == ["rest"]
    assert [spec.name for spec in box.specs([])] == ["act", "rest"] == list(box.names)


@pytest.mark.parametrize("name", ["fly", "rest", ""])
async def test_a_tool_that_was_not_offered_is_refused_with_the_names_of_those_that_were(name: str) -> None:
    response = await called(toolbox(), name=name)
    assert response == ToolResponse("c1", name, f"There is no tool {name!r}. Tools: act.", is_error=True)


async def test_a_tool_that_is_offered_no_longer_by_the_service_is_not_among_the_names() -> None:
    before = toolbox().specs([])
    after = box_of(Act("rest", json.dumps))
    response = await after.call(ToolCall("c1", "act", "{}"), before, CONTEXT)
    assert response.content == "There is no tool 'act'. Tools: rest."


@pytest.mark.parametrize(
    "arguments_json",
    [
        "",
        "{",
        "north",
        '{"a": 1} more',
        '{"a": NaN}',
        '{"a": ' + "1" * 5000 + "}",
        '{"a": ' + "[" * 100_000,
        "[]",
        "null",
        '"{}"',
    ],
    ids=lambda value: value[:10],
)
async def test_arguments_that_are_not_a_json_object_are_an_error(arguments_json: str) -> None:
    response = await called(toolbox(), arguments_json)
    assert response.is_error
    assert response.content.startswith("The arguments are not ")


async def test_the_text_of_an_exception_is_not_told() -> None:
    assert await called(toolbox(fail)) == ToolResponse("c1", "act", "The tool act failed.", is_error=True)


async def test_output_that_fits_is_kept_to_the_byte() -> None:
    output = "\N{EURO SIGN}" * 33 + "a"
    assert len(output.encode()) == MAX_OUTPUT_BYTES
    assert (await called(toolbox(lambda _: output))).content == output


@pytest.mark.parametrize("ascii_characters", [0, 1, 2])
async def test_output_that_is_too_long_is_cut_between_characters_and_says_so(ascii_characters: int) -> None:
    output = "a" * ascii_characters + "\N{EURO SIGN}" * 34
    kept, _, said = (await called(toolbox(lambda _: output))).content.rpartition("\n")
    assert output.startswith(kept)
    assert MAX_OUTPUT_BYTES - 3 < len(kept.encode()) <= MAX_OUTPUT_BYTES
    assert said == f"[cut here: {len(output.encode())} bytes, of which {MAX_OUTPUT_BYTES} are shown]"


@pytest.mark.parametrize("length", [10, 1000])
async def test_output_that_utf_8_cannot_say_is_no_failure(length: int) -> None:
    response = await called(toolbox(lambda _: "a\ud800\udfff" * length))
    assert not response.is_error
    assert response.content.startswith("a")


@pytest.mark.parametrize(("max_bytes", "kept"), [(0, 0), (7, 7), (MAX_OUTPUT_BYTES + 1, MAX_OUTPUT_BYTES)])
async def test_a_caller_can_ask_for_less_output_and_not_for_more(max_bytes: int, kept: int) -> None:
    response = await called(toolbox(lambda _: "a" * 200), max_bytes=max_bytes)
    assert response.content == "a" * kept + f"\n[cut here: 200 bytes, of which {kept} are shown]"


async def test_a_tool_that_takes_too_long_is_stopped_and_the_limit_is_named() -> None:
    held = Held("act")
    response = await called(box_of(held, timeout_seconds=SOON_SECONDS))
    late = "The tool act did not finish within 0.01 s (SPARK_TOOL_TIMEOUT_SECONDS)."
    assert response == ToolResponse("c1", "act", late, is_error=True)
    assert held.stopped.is_set()


async def test_a_tool_has_the_time_that_it_declares() -> None:
    response = await called(box_of(Held("act", Traits(timeout_seconds=SOON_SECONDS))))
    assert response.content == "The tool act did not finish within 0.01 s."
    quick = Act("act", json.dumps, Traits(timeout_seconds=NEVER_SECONDS))
    assert not (await called(box_of(quick, timeout_seconds=0))).is_error


async def test_a_tool_that_does_not_stop_is_left_behind() -> None:
    held = Held("act", stubborn=True)
    response = await called(box_of(held, timeout_seconds=SOON_SECONDS, grace_seconds=SOON_SECONDS))
    assert response.content.startswith("The tool act did not finish within")
    assert held.runs
    held.let_go.set()
    await held.stopped.wait()


async def test_a_call_that_is_cancelled_ends_when_its_tool_has_stopped() -> None:
    held = Held("act", stubborn=True)
    calling = asyncio.create_task(called(box_of(held)))
    await held.started.wait()
    calling.cancel()
    await held.cancelled.wait()
    assert not calling.done()
    held.let_go.set()
    await asyncio.wait({calling})
    assert calling.cancelled()
    assert held.stopped.is_set()


async def test_a_tool_that_cancels_itself_has_failed() -> None:
    def quit_at_once(arguments: JsonObject) -> str:
        raise asyncio.CancelledError

    response = await called(toolbox(quit_at_once))
    assert response == ToolResponse("c1", "act", "The tool act was cancelled.", is_error=True)


def test_what_a_tool_declares_is_told_by_its_name() -> None:
    box = box_of(
        Act("c", json.dumps, Traits(cancellable=True)),
        Act("r", json.dumps, Traits(repeatable=True)),
    )
    assert [box.cancellable(name) for name in ("c", "r", "unknown")] == [True, False, False]
    assert [box.repeatable(name) for name in ("c", "r", "unknown")] == [False, True, False]


def wait_seconds(
    arguments_json: str, name: str = "wait", offered: tuple[str, ...] = ("wait",)
) -> float | None:
    box = box_of(Wait(), Act("act", json.dumps))
    return box.wait_seconds(ToolCall("c1", name, arguments_json), box.specs(offered))


def test_a_valid_call_of_wait_says_how_long() -> None:
    assert wait_seconds('{"seconds": 90}') == 90


@pytest.mark.parametrize(
    "arguments_json",
    ["", "[]", "{}", '{"seconds": 0}', '{"seconds": NaN}', '{"seconds": ' + "1" * 5000 + "}"],
)
def test_an_invalid_call_of_wait_is_no_wait(arguments_json: str) -> None:
    assert wait_seconds(arguments_json) is None


def test_a_wait_is_a_call_of_the_tool_wait_where_it_was_offered() -> None:
    assert wait_seconds('{"seconds": 90}', offered=("act",)) is None
    assert wait_seconds('{"seconds": 90}', name="act", offered=("act", "wait")) is None
    namesake = box_of(Act("wait", json.dumps))
    assert namesake.wait_seconds(ToolCall("c1", "wait", '{"seconds": 90}'), namesake.specs([])) is None
