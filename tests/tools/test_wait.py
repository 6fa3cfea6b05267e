import json

import pytest

from agent_service.domain import Json, JsonObject, ToolCall
from agent_service.tools.wait import MAX_SECONDS, Wait
from tests.tools.held import CONTEXT

INVALID_SECONDS: list[Json] = [
    0,
    -1,
    0.0,
    -0.5,
    MAX_SECONDS + 1,
    604800.001,
    10**4000,
    -(10**4000),
    float("inf"),
    float("nan"),
    True,
    False,
    "60",
    "",
    None,
    [60],
    {"seconds": 60},
]


@pytest.mark.parametrize("seconds", [1, 0.001, 60, 90.5, MAX_SECONDS, float(MAX_SECONDS)])
def test_a_valid_call_asks_to_wait_for_so_many_seconds(seconds: float) -> None:
    asked = Wait().seconds({"seconds": seconds, "reason": "The fine-tune is not done."})
    assert asked == seconds
    assert isinstance(asked, float)


@pytest.mark.parametrize("seconds", INVALID_SECONDS, ids=lambda value: repr(value)[:10])
async def test_what_is_no_time_to_wait_is_an_error_that_names_the_limit(seconds: Json) -> None:
    await assert_refused({"seconds": seconds}, "seconds must be a number greater than 0 and at most 604800")


async def test_a_call_without_a_time_is_an_error_that_names_the_limit() -> None:
    await assert_refused({}, "seconds must be a number greater than 0 and at most 604800")


@pytest.mark.parametrize("reason", [None, 1, ["tired"]])
async def test_a_reason_that_is_no_text_is_an_error(reason: Json) -> None:
    await assert_refused({"seconds": 60, "reason": reason}, "reason must be a string")


async def test_a_number_that_only_an_infinity_can_hold_is_an_error() -> None:
    await assert_refused(ToolCall("c1", "wait", '{"seconds": 1e999}').arguments(), "seconds must be ")


async def test_a_valid_call_that_was_not_taken_as_the_wait_is_one_too_many() -> None:
    outcome = await Wait().call({"seconds": 60}, CONTEXT)
    assert outcome.is_error
    assert outcome.content == "Only one wait at a time."


def test_the_schema_states_the_limits_that_are_checked() -> None:
    schema = json.loads(json.dumps(Wait.spec.parameters))
    seconds = schema["properties"]["seconds"]
    assert (seconds["exclusiveMinimum"], seconds["maximum"]) == (0, MAX_SECONDS) == (0, 7 * 86400)
    assert schema["required"] == ["seconds"]


async def assert_refused(arguments: JsonObject, words: str) -> None:
    with pytest.raises(ValueError, match=f"^{words}"):
        Wait().seconds(arguments)
    outcome = await Wait().call(arguments, CONTEXT)
    assert outcome.is_error
    assert outcome.content.startswith(words)
