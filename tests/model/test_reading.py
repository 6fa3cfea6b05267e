"""A reply as its events are read, without a server."""

import pytest

from agent_service.domain import RoundFailure, Usage
from agent_service.model import Chunk, ModelError
from agent_service.model.reading import Reading
from agent_service.model.tool_calls import MAX_CALLS

ROOM = 1000


def said(finish_reason: str | None = None, **delta: object) -> dict:
    return {"choices": [{"delta": delta, "finish_reason": finish_reason}]}


def called(name: str = "", arguments: object = "", **rest: object) -> dict:
    return said(tool_calls=[{"function": {"name": name, "arguments": arguments}} | rest])


def read(*events: dict, max_bytes: int = ROOM, window: int | None = None) -> list[Chunk]:
    reading = Reading(max_bytes)
    chunks = [reading.read(event) for event in events]
    reading.end(window)
    return chunks


def failure(*events: dict, max_bytes: int = ROOM, window: int | None = None) -> ModelError:
    with pytest.raises(ModelError) as raised:
        read(*events, max_bytes=max_bytes, window=window)
    return raised.value


def test_text_reasoning_ids_names_and_arguments_count_together() -> None:
    reply = [said(content="1234", reasoning="567"), called("no", "9", index=0, id="a"), said("stop")]
    assert read(*reply, max_bytes=12)
    error = failure(*reply, max_bytes=11)
    assert error.reason is RoundFailure.BAD_REPLY
    assert error.detail == "the reply is longer than 11 bytes, the most that SPARK_MAX_REPLY_BYTES allows"


def test_bytes_are_counted_and_not_characters() -> None:
    assert failure(said("stop", content="灯塔"), max_bytes=5).reason is RoundFailure.BAD_REPLY


def test_events_that_say_nothing_come_to_an_end_too() -> None:
    assert failure(*[said(content="")] * (ROOM + 1)).reason is RoundFailure.BAD_REPLY


def test_so_many_calls_are_no_reply() -> None:
    calls = [called("now", "{}", index=index) for index in range(MAX_CALLS + 1)]
    assert read(*calls[:-1], said("tool_calls"))
    error = failure(*calls)
    assert error.reason is RoundFailure.BAD_REPLY
    assert error.detail == "the model called more than 128 tools in one reply"


@pytest.mark.parametrize("reason", [None, "", "abort", "error"])
def test_a_reply_without_a_good_end_is_none(reason: str | None) -> None:
    error = failure(said(content="Hel"), said(reason))
    assert error.reason is RoundFailure.MODEL_UNAVAILABLE
    assert error.detail == "the model server broke off before the end of the reply"


def test_a_reply_cut_short_is_none() -> None:
    error = failure(said(content="Hel"), said("content_filter"))
    assert error.reason is RoundFailure.BAD_REPLY
    assert "content_filter" in error.detail


@pytest.mark.parametrize(
    ("usage", "window", "reason"),
    [
        ((900, 100), 1000, RoundFailure.CONTEXT_OVERFLOW),
        ((500, 390), 1000, RoundFailure.BAD_REPLY),
        ((500, 390), None, RoundFailure.CONTEXT_OVERFLOW),
        (None, 1000, RoundFailure.CONTEXT_OVERFLOW),
    ],
)
def test_a_reply_cut_at_its_length_has_filled_the_window_unless_there_was_room(
    usage: tuple[int, int] | None, window: int | None, reason: RoundFailure
) -> None:
    counted = usage and {"prompt_tokens": usage[0], "completion_tokens": usage[1]}
    error = failure(said(content="Hel"), said("length") | {"usage": counted}, window=window)
    assert error.reason is reason
    assert "length" in error.detail


def test_announced_calls_that_do_not_come_are_no_reply_unless_there_are_words() -> None:
    assert failure(said(role="assistant"), said("tool_calls")).reason is RoundFailure.BAD_REPLY
    assert read(said(content="I look at the clock."), said("tool_calls"))


def test_an_empty_reply_is_one() -> None:
    assert [chunk.text for chunk in read(said("stop"))] == [""]


@pytest.mark.parametrize(
    ("usage", "counted"),
    [
        ({"prompt_tokens": 3, "completion_tokens": 2}, Usage(3, 0, 2)),
        ({"prompt_tokens": 3, "prompt_tokens_details": {"cached_tokens": 1}}, Usage(3, 1, 0)),
        ({"prompt_tokens": 3, "prompt_tokens_details": {"cached_tokens": None}}, Usage(3, 0, 0)),
        (None, None),
        ("plenty", None),
        ({"prompt_tokens": None}, None),
        ({"prompt_tokens": -1}, None),
        ({"prompt_tokens": 10**30}, None),
        ({"prompt_tokens": 0.5}, None),
        ({"prompt_tokens": 3, "prompt_tokens_details": {"cached_tokens": -1}}, None),
    ],
)
def test_usage_that_makes_no_sense_is_as_if_it_were_missing(usage: object, counted: Usage | None) -> None:
    *_, last = read(said("stop"), {"choices": [], "usage": usage})
    assert last.usage == counted
    assert not last.begun
