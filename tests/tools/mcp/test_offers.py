import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp.types import Tool, ToolAnnotations

from agent_service.tools.mcp import offers as module
from agent_service.tools.mcp.offers import offered_name, offers

OBJECT = {"type": "object", "properties": {"text": {"type": "string"}}}


def tool(name: str, description: str | None = None, schema: dict | None = None, **hints: bool) -> Tool:
    annotations = ToolAnnotations(**hints) if hints else None
    schema = OBJECT if schema is None else schema
    return Tool(name=name, description=description, input_schema=schema, annotations=annotations)


@pytest.mark.parametrize(
    ("own_name", "offered"),
    [
        ("fetch", "web_fetch"),
        ("get-page_2", "web_get-page_2"),
        ("get.page", "web_get_page_7ce47c22"),
        ("a" * 60, "web_" + "a" * 60),
        ("a" * 61, "web_" + "a" * 51 + "_" + "35d5fc17"),
    ],
)
def test_a_tool_has_the_same_name_for_ever(own_name: str, offered: str) -> None:
    assert offered_name("web", own_name) == offered


@given(st.lists(st.text(), unique=True))
def test_names_are_fit_for_models_and_of_different_tools_differ(own_names: list[str]) -> None:
    names = [offered_name("web", own_name) for own_name in own_names]
    assert all(re.fullmatch(r"web_[a-zA-Z0-9_-]{0,60}", name) for name in names)
    assert len(set(names)) == len(names)


def test_a_tool_is_offered_with_its_description_and_its_schema() -> None:
    [offered] = offers("web", [tool("fetch", "Fetches a page.")]).offered
    assert (offered.own_name, offered.spec.name, offered.spec.description) == (
        "fetch",
        "web_fetch",
        "Fetches a page.",
    )
    assert offered.spec.parameters == OBJECT


def test_the_order_is_that_of_the_names() -> None:
    found = offers("web", [tool("c"), tool("a"), tool("b")])
    assert [one.spec.name for one in found.offered] == ["web_a", "web_b", "web_c"]


@pytest.mark.parametrize(
    ("hints", "repeatable"),
    [
        ({}, False),
        ({"read_only_hint": True}, True),
        ({"idempotent_hint": True}, True),
        ({"read_only_hint": False, "idempotent_hint": False}, False),
        ({"destructive_hint": False}, False),
    ],
)
def test_a_tool_is_repeatable_if_its_server_says_that_it_does_no_harm(
    hints: dict[str, bool], repeatable: bool
) -> None:
    [offered] = offers("web", [tool("fetch", **hints)]).offered
    assert offered.repeatable is repeatable


def test_a_tool_whose_schema_is_unfit_is_left_out_with_the_reason() -> None:
    found = offers("web", [tool("bad", "Does harm.", {"type": "object", "required": 3}), tool("good")])
    assert [one.spec.name for one in found.offered] == ["web_good"]
    [left_out] = found.left_out
    reason = "has a schema that is none: $.required makes no sense"
    assert (left_out.name, left_out.description, left_out.left_out) == ("bad", "Does harm.", reason)


def test_a_reason_is_cut_and_cleaned() -> None:
    lost = {"type": "object", "$ref": "#\x1b" + "a" * 1000}
    [left_out] = offers("web", [tool("bad", schema=lost)]).left_out
    assert len(left_out.left_out) == module.MAX_REASON_LENGTH
    assert "\x1b" not in left_out.left_out


def test_a_name_is_given_once() -> None:
    found = offers("web", [tool("fetch", "first"), tool("fetch", "second")])
    assert [one.spec.description for one in found.offered] == ["first"]
    assert [one.left_out for one in found.left_out] == ["has the name of another tool"]


def test_of_a_server_with_too_many_tools_some_are_left_out() -> None:
    found = offers("web", [tool(f"t{n}") for n in range(module.MAX_LISTED + 50)])
    assert len(found.offered) == module.MAX_TOOLS
    *left_out, rest = found.left_out
    assert len(left_out) == module.MAX_LISTED - module.MAX_TOOLS
    assert {one.left_out for one in left_out} == {"is beyond the 100 tools that are offered of one server"}
    assert (rest.name, rest.left_out) == ("…", "stands for 50 more")


def test_a_description_is_cut_and_cleaned() -> None:
    [offered] = offers("web", [tool("fetch", "a\x00b\x1b[2J\ud800 " + "é" * 5000)]).offered
    assert offered.spec.description.startswith("a\ufffdb\ufffd[2J\ufffd é")
    assert "[cut here: " in offered.spec.description
    json.dumps(offered.spec.description, ensure_ascii=False).encode()


def test_a_tool_without_a_description_has_its_title_or_nothing() -> None:
    assert offers("web", [tool("fetch")]).offered[0].spec.description == ""
    titled = Tool(name="fetch", title="Fetch", input_schema=OBJECT)
    assert offers("web", [titled]).offered[0].spec.description == "Fetch"
