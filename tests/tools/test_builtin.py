from datetime import UTC, datetime, timedelta

import pytest

from agent_service.domain import Json
from agent_service.tools.builtin import Note, Now, builtin_tools
from tests.tools.held import CONTEXT


def test_every_agent_can_tell_the_time_wait_and_take_notes() -> None:
    assert [tool.spec.name for tool in builtin_tools()] == ["now", "wait", "note"]


def test_what_is_built_in_may_run_again_after_a_crash() -> None:
    assert all(tool.traits.repeatable for tool in builtin_tools())


async def test_now_tells_the_time_with_its_zone() -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    utc = datetime.fromisoformat((await Now().call({}, CONTEXT)).content)
    kolkata = datetime.fromisoformat((await Now().call({"tz": "Asia/Kolkata"}, CONTEXT)).content)
    assert before <= utc <= kolkata <= datetime.now(UTC)
    assert (utc.utcoffset(), kolkata.utcoffset()) == (timedelta(0), timedelta(hours=5, minutes=30))


@pytest.mark.parametrize(
    "tz",
    ["", "Nowhere", "Europe", "../../etc/passwd", "/etc/localtime", "a\0b", "\ud800", "a" * 5000, 1, None],
)
async def test_what_is_not_a_time_zone_is_an_error(tz: Json) -> None:
    outcome = await Now().call({"tz": tz}, CONTEXT)
    assert outcome.is_error
    assert outcome.content.endswith(" is not a time zone")


async def test_a_note_is_taken() -> None:
    assert not (await Note().call({"text": "The lamp burns."}, CONTEXT)).is_error


@pytest.mark.parametrize("text", ["", " \n", None, 1, ["The lamp burns."]])
async def test_a_note_that_says_nothing_is_an_error(text: Json) -> None:
    assert (await Note().call({"text": text}, CONTEXT)).is_error
    assert (await Note().call({}, CONTEXT)).is_error
