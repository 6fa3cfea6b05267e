"""Parts of calls as servers send them, sorted and added up."""

import json
from collections.abc import Sequence

import pytest

from agent_service.domain import ToolCall
from agent_service.model import Chunk, ReplyFold
from agent_service.model.tool_calls import CallPart, ToolCalls


def part(name: str = "", arguments: str = "", call_id: str = "", index: int | None = None) -> CallPart:
    return CallPart(index, call_id, name, arguments)


def calls(*events: Sequence[CallPart] | CallPart) -> list[ToolCall]:
    """What parts add up to that came in these events."""
    sorting, fold = ToolCalls(), ReplyFold()
    for event in events:
        fold.add(Chunk(tool_calls=sorting.pieces([event] if isinstance(event, CallPart) else event)))
    return list(fold.reply().tool_calls)


def said(*events: Sequence[CallPart] | CallPart) -> list[tuple[str, str]]:
    return [(call.name, call.arguments_json) for call in calls(*events)]


def test_parts_of_two_calls_are_told_apart_by_their_index() -> None:
    assert calls(
        part("now", "", "a", 0),
        part("note", '{"te', "b", 1),
        part(arguments="{}", index=0),
        part(arguments='xt": "x"}', index=1),
    ) == [ToolCall("a", "now", "{}"), ToolCall("b", "note", '{"text": "x"}')]


def test_calls_stand_in_the_order_of_their_indexes_whatever_comes_first() -> None:
    assert said(part("note", "{", "b", 1), part("now", "{}", "a", 0), part(arguments="}", index=1)) == [
        ("now", "{}"),
        ("note", "{}"),
    ]


def test_a_name_repeated_in_every_part_is_said_once() -> None:
    letters = json.dumps({"text": "{}"})
    for call_id, index in (("a", 0), ("", 0), ("a", None), ("", None)):
        parts = [part("note", letter, call_id, index) for letter in letters]
        assert said(*parts, part("note", "", call_id, index)) == [("note", letters)]


def test_a_name_in_parts_is_put_together() -> None:
    assert said(part("no", "", "a", 0), part("te", "", "", 0), part("", "{}", "", 0)) == [("note", "{}")]


def test_an_id_of_its_own_in_every_part_makes_no_calls_without_names() -> None:
    assert said(part("now", "", "a", 0), part("", "{", "b", 0), part("", "}", "c", 0)) == [("now", "{}")]


@pytest.mark.parametrize("index", [0, None])
def test_calls_that_share_an_index_or_have_none_are_told_apart_by_their_ids(index: int | None) -> None:
    first, second = part("now", "{}", "a", index), part("now", "{}", "b", index)
    for events in ([first, second], [[first, second]]):
        assert calls(*events) == [ToolCall("a", "now", "{}"), ToolCall("b", "now", "{}")]


@pytest.mark.parametrize("index", [0, None])
def test_calls_without_ids_are_told_apart_by_their_names(index: int | None) -> None:
    assert said(part("now", "{}", "", index), part("note", '{"text": "x"}', "", index)) == [
        ("now", "{}"),
        ("note", '{"text": "x"}'),
    ]


@pytest.mark.parametrize("index", [0, None])
def test_a_whole_call_is_followed_by_another_of_the_same_tool(index: int | None) -> None:
    assert said(*[part("now", "{}", "", index)] * 3) == [("now", "{}")] * 3
    one, two = part("note", '{"text": "1"}', "a", index), part("note", '{"text": "2"}', "a", index)
    assert [call.arguments_json for call in calls(one, two)] == ['{"text": "1"}', '{"text": "2"}']


def test_a_call_said_once_more_with_its_id_is_one_call() -> None:
    whole = part("note", '{"text": "x"}', "a", 0)
    assert calls(whole, whole) == [ToolCall("a", "note", '{"text": "x"}')]
    in_parts = [part("note", '{"text"', "a", 0), part("", ': "x"}', "", 0)]
    assert calls(*in_parts, whole) == [ToolCall("a", "note", '{"text": "x"}')]


def test_two_calls_with_the_same_id_and_indexes_of_their_own_are_two() -> None:
    twins = calls(part("now", "{}", "a", 0), part("now", "{}", "a", 1))
    assert len(twins) == 2
    assert len({call.call_id for call in twins}) == 2


def test_parts_that_lose_their_index_go_on_with_the_call_that_was_last() -> None:
    assert said(
        part("now", "{", "a", 0), part("note", "{", "b", 1), part(arguments="}", index=0), part("", "}")
    ) == [
        ("now", "{}}"),
        ("note", "{"),
    ]
    assert said(part("now", "", "a", 0), part("", "{"), part("", "}")) == [("now", "{}")]
    assert said(part("now", "", "a"), part("", "{}", "", 0)) == [("now", "{}")]


def test_parts_without_index_find_their_call_by_its_id() -> None:
    assert said(part("now", "", "a"), part("note", "", "b"), part("", "{}", "a"), part("", "[]", "b")) == [
        ("now", "{}"),
        ("note", "[]"),
    ]


def test_an_index_may_be_any_number() -> None:
    assert said(part("now", "{}", "a", -1), part("note", "{}", "b", 10**9)) == [("now", "{}"), ("note", "{}")]


def test_a_name_is_told_once_and_before_the_arguments() -> None:
    sorting = ToolCalls()
    events = [part("note", "", "a", 0), part("note", "{", "a", 0), part("note", "}", "a", 0)]
    pieces = [piece for event in events for piece in sorting.pieces([event])]
    assert [(piece.call_id, piece.name, piece.arguments) for piece in pieces] == [
        ("a", "note", ""),
        ("", "", "{"),
        ("", "", "}"),
    ]
