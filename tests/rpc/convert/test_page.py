import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_service.domain import Json
from agent_service.errors import InvalidField
from agent_service.rpc.convert import page
from spark.agent.v1.message_pb2 import ToolCall

FILTERS: Json = [["active"], {"team": "a"}]
cursors = st.integers(0, 2**128 - 1)


@given(cursors)
def test_a_token_gives_back_where_the_listing_stands(cursor: int) -> None:
    token = page.token(cursor, "ListSessions", FILTERS)
    assert page.cursor("page_token", token, "ListSessions", FILTERS) == cursor


@pytest.mark.parametrize(
    ("method", "filters"),
    [("ListMessages", FILTERS), ("ListSessions", [["active"], {"team": "b"}]), ("ListSessions", [[], {}])],
)
def test_a_token_of_another_listing_is_refused(method: str, filters: Json) -> None:
    token = page.token(7, "ListSessions", FILTERS)
    with pytest.raises(InvalidField, match=r"page_token: .* this listing"):
        page.cursor("page_token", token, method, filters)


@given(st.text(max_size=60))
def test_words_are_no_token(words: str) -> None:
    with pytest.raises(InvalidField):
        page.cursor("page_token", words, "ListSessions", FILTERS)


@given(cursors, st.integers(0, 24), st.integers(1, 255))
def test_a_token_with_a_changed_byte_is_refused(cursor: int, place: int, change: int) -> None:
    raw = bytearray(base64.urlsafe_b64decode(page.token(cursor, "ListSessions", FILTERS)))
    raw[place] ^= change
    forged = base64.urlsafe_b64encode(raw).decode()
    with pytest.raises(InvalidField):
        page.cursor("page_token", forged, "ListSessions", FILTERS)


@pytest.mark.parametrize(("sent", "size"), [(0, 50), (1, 1), (1000, 1000), (1001, 1000), (2**31 - 1, 1000)])
def test_a_page_has_50_items_unless_told_and_never_more_than_1000(sent: int, size: int) -> None:
    assert page.size("page_size", sent) == size


def test_a_negative_size_is_refused() -> None:
    with pytest.raises(InvalidField, match="page_size"):
        page.size("page_size", -1)


items = st.lists(st.integers(0, 60).map(lambda length: ToolCall(name="n" * length)), max_size=20)


@given(items, st.integers(1, 200))
def test_cutting_keeps_all_items_in_order_in_lists_of_no_more_bytes(
    items: list[ToolCall], max_bytes: int
) -> None:
    pieces = list(page.cut(items, max_bytes))
    assert [item for piece in pieces for item in piece] == items
    for piece in pieces:
        assert len(piece) == 1 or sum(item.ByteSize() for item in piece) <= max_bytes


LISTED = [ToolCall(name=str(n)) for n in range(5)]


def listed(size: int, token: str = "", listed: list[ToolCall] = LISTED) -> tuple[list[str], str]:
    """A page of these, whose place is their number plus one."""
    listing = page.Listing("ListMessages", FILTERS, size, token)
    found = listed[listing.after :][: listing.limit]
    shown, next_token = listing.page(found, lambda item: item, lambda last: listed.index(last) + 1)
    return [item.name[0] for item in shown], next_token


def test_pages_follow_one_another_to_the_end_of_a_listing() -> None:
    first, token = listed(2)
    second, next_token = listed(2, token)
    assert (first, second, listed(2, next_token)) == (["0", "1"], ["2", "3"], (["4"], ""))


@pytest.mark.parametrize("size", [5, 6, 0])
def test_a_page_that_holds_everything_is_the_last(size: int) -> None:
    assert listed(size) == (["0", "1", "2", "3", "4"], "")


def test_a_listing_of_nothing_is_one_empty_page() -> None:
    assert listed(2, listed=[]) == ([], "")


def test_a_page_that_is_cut_by_its_bytes_has_a_next_one_even_if_nothing_else_was_found() -> None:
    large = [ToolCall(name=f"{n}" * 600_000) for n in range(2)]
    first, token = listed(50, listed=large)
    assert (first, listed(50, token, large)) == (["0"], (["1"], ""))


def test_an_item_larger_than_a_page_stands_alone() -> None:
    small, large = ToolCall(name="a"), ToolCall(name="b" * 100)
    assert list(page.cut([small, large, small], 50)) == [[small], [large], [small]]
