import json
from collections.abc import Callable

import pytest

from agent_service.domain import JsonObject, ToolCall, ToolResponse
from agent_service.model import ToolSpec
from agent_service.tools import Toolbox, ToolOutcome

MAX_OUTPUT_BYTES = 100


class Act:
    """A tool that does what the test says."""

    def __init__(self, name: str, act: Callable[[JsonObject], str]) -> None:
        self.spec = ToolSpec(name, "", {"type": "object"})
        self._act = act

    async def call(self, arguments: JsonObject) -> ToolOutcome:
        return ToolOutcome(self._act(arguments))


def fail(arguments: JsonObject) -> str:
    raise KeyError("a secret")


def toolbox(act: Callable[[JsonObject], str] = json.dumps) -> Toolbox:
    return Toolbox([Act("act", act), Act("rest", json.dumps)], MAX_OUTPUT_BYTES)


async def called(
    box: Toolbox, arguments_json: str = "{}", name: str = "act", offered: tuple[str, ...] = ("act",)
) -> ToolResponse:
    return await box.call(ToolCall("c1", name, arguments_json), box.specs(offered))


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
    after = Toolbox([Act("rest", json.dumps)], MAX_OUTPUT_BYTES)
    response = await after.call(ToolCall("c1", "act", "{}"), before)
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
    assert said == f"[cut here: {len(output.encode())} bytes, of which {MAX_OUTPUT_BYTES} are kept]"


@pytest.mark.parametrize("length", [10, 1000])
async def test_output_that_utf_8_cannot_say_is_no_failure(length: int) -> None:
    response = await called(toolbox(lambda _: "a\ud800\udfff" * length))
    assert not response.is_error
    assert response.content.startswith("a")
