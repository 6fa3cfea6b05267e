import json
from datetime import UTC

import pytest

from spark.agent.v1.message_pb2 import ToolCall
from sparkctl.waits import Wait, wait_of
from tests.sparkctl.events import at


def call(arguments_json, name="wait"):
    return ToolCall(call_id="c1", name=name, arguments_json=arguments_json)


@pytest.mark.parametrize(
    ("arguments", "wait"),
    [
        ({"seconds": 60}, Wait(60, "")),
        ({"seconds": 0.5, "reason": "the tide"}, Wait(0.5, "the tide")),
        ({"seconds": 604_800, "until": "high water"}, Wait(604_800, "")),
    ],
)
def test_a_call_of_the_tool_says_how_long_and_why(arguments, wait):
    assert wait_of(call(json.dumps(arguments))) == wait


def test_another_tool_is_no_wait():
    assert wait_of(call('{"seconds": 60}', name="now")) is None


@pytest.mark.parametrize(
    "arguments_json",
    ["", "{", "[60]", "{}", '{"seconds": "60"}', '{"seconds": true}', '{"seconds": 0}', '{"seconds": -1}',
     '{"seconds": NaN}', '{"seconds": 1e300}', '{"seconds": 60, "reason": 1}', "[" * 100_000],
    ids=lambda text: text[:20],
)  # fmt: skip
def test_arguments_that_the_tool_refuses_are_no_wait(arguments_json):
    assert wait_of(call(arguments_json)) is None


def test_a_wait_is_told_with_its_age_its_end_and_its_reason():
    now = at(60).ToDatetime(UTC)

    assert Wait(90, "").told(at(0), now, UTC) == "for 60 s, until an interrupt or 02:01:30"
    assert Wait(90, "the\ntide").told(at(0), now, UTC) == "for 60 s, until an interrupt or 02:01:30: the tide"
