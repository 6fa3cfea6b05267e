from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_service.domain import Interrupt, Notification, Nudge, Portion
from agent_service.loop.frame import frame
from agent_service.loop.window import BYTES_PER_TOKEN, MIN_SHOWN_BYTES, UNKNOWN, UNKNOWN_TOKENS, Window, size
from tests.loop.story import TAG, interrupt

# A quarter of it is for interrupts: 1,000 tokens, 3,000 bytes.
WINDOW = Window(4000)
LIMIT_BYTES = 16 * 1024


def nudge(text_bytes: int) -> Interrupt:
    return interrupt(Nudge("x" * text_bytes))


nudges = st.lists(st.builds(nudge, st.integers(0, 2000)), max_size=8)


# ---- the portion of interrupts


def test_what_is_due_is_delivered_whole_where_it_fits() -> None:
    assert WINDOW.portion([nudge(100), nudge(200)], [], TAG) == Portion(2)


def test_the_first_in_order_are_delivered_as_long_as_they_fit() -> None:
    """Naive: take whatever fits, and let a short one pass by a long one."""
    assert WINDOW.portion([nudge(1200), nudge(1200), nudge(1200), nudge(10)], [], TAG) == Portion(2)


def test_what_was_delivered_and_not_answered_takes_its_part_of_the_quarter() -> None:
    assert WINDOW.portion([nudge(1200), nudge(1200)], [nudge(1200)], TAG) == Portion(1)
    assert WINDOW.portion([nudge(1200)], [nudge(1200), nudge(1200)], TAG) == Portion(0)


def test_an_unanswered_one_counts_as_it_is_shown() -> None:
    long = replace(nudge(LIMIT_BYTES), shown_bytes=1000)
    assert WINDOW.portion([nudge(1200)], [long], TAG) == Portion(1)


def test_one_that_is_too_long_by_itself_is_cut_to_the_quarter() -> None:
    assert WINDOW.portion([nudge(LIMIT_BYTES), nudge(10)], [], TAG) == Portion(1, shown_bytes=3000)


def test_one_that_is_too_long_waits_until_all_others_are_answered() -> None:
    """Naive: cut it as soon as it comes to its turn, and let two fill more than the quarter."""
    assert WINDOW.portion([nudge(10), nudge(LIMIT_BYTES)], [], TAG) == Portion(1)
    assert WINDOW.portion([nudge(LIMIT_BYTES)], [nudge(10)], TAG) == Portion(0)


@given(nudges, nudges)
def test_a_portion_fills_no_more_than_the_quarter(due: list[Interrupt], unanswered: list[Interrupt]) -> None:
    portion = WINDOW.portion(due, unanswered, TAG)
    shown = sum(size(frame(one, TAG)) for one in [*due[: portion.count], *unanswered])
    assert portion.count == 0 or portion.shown_bytes or shown <= 3000
    assert (portion.count == 0) <= (due == [] or unanswered != [])


@given(st.integers(1, 200_000))
def test_in_every_window_something_is_delivered_and_cut_where_it_has_to_be(size: int) -> None:
    portion = Window(size).portion([nudge(LIMIT_BYTES)], [], TAG)
    assert portion.count == 1
    shown = frame(replace(nudge(LIMIT_BYTES), shown_bytes=portion.shown_bytes), TAG)
    # The frame and the word about the cut come on top.
    assert len(shown) <= max(size // 4, 1) * BYTES_PER_TOKEN + 150


def test_where_nobody_knows_the_window_the_longest_interrupt_is_shown_whole() -> None:
    longest = interrupt(Notification("t", text="x" * LIMIT_BYTES, data_json="x" * LIMIT_BYTES))
    assert UNKNOWN.portion([longest, longest], [], TAG) == Portion(1)


# ---- what was delivered and is too long


def test_what_fits_is_not_shortened() -> None:
    assert WINDOW.shortened([nudge(1200), nudge(1200)], TAG) == []
    assert WINDOW.shortened([], TAG) == []


def test_who_takes_more_than_a_share_is_cut_and_the_others_leave_it_their_rest() -> None:
    """Naive: cut each to the same part of the quarter, and waste what the short ones leave."""
    short, long, longest = nudge(100), nudge(2500), nudge(LIMIT_BYTES)
    shortened = WINDOW.shortened([long, short, longest], TAG)
    left = (3000 - size(frame(short, TAG))) // 2
    assert shortened == [replace(long, shown_bytes=left), replace(longest, shown_bytes=left)]


@given(nudges, st.integers(1, 10_000))
def test_shortened_ones_come_to_fit_or_cannot_be_cut_any_further(due: list[Interrupt], tokens: int) -> None:
    window = Window(tokens)
    shortened = {one.interrupt_id: one for one in window.shortened(due, TAG)}
    after = [shortened.get(one.interrupt_id, one) for one in due]
    for one, less in zip(due, after, strict=True):
        assert size(frame(less, TAG)) <= size(frame(one, TAG))
        assert less is one or less.shown_bytes >= MIN_SHOWN_BYTES
    # The frame and the word about the cut come on top.
    frames = [size(frame(one, TAG)) for one in after]
    assert sum(frames) <= max(window.bytes // 4, MIN_SHOWN_BYTES * len(after)) + 150 * len(after)


@given(nudges)
def test_after_enough_refusals_nothing_is_left_to_shorten(delivered: list[Interrupt]) -> None:
    window = WINDOW
    for _ in range(20):
        window = window.refused(sum(size(frame(one, TAG)) for one in delivered))
        shorter = {one.interrupt_id: one for one in window.shortened(delivered, TAG)}
        delivered = [shorter.get(one.interrupt_id, one) for one in delivered]
    assert window.shortened(delivered, TAG) == []
    assert all(size(frame(one, TAG)) <= MIN_SHOWN_BYTES + 150 for one in delivered)


# ---- how long a token is


@pytest.mark.parametrize(("counted", "bytes_per_token"), [(1000, 1.5), (100, 3), (10**9, 1), (1, 3)])
def test_a_count_says_how_long_tokens_are_within_reason(counted: int, bytes_per_token: float) -> None:
    assert WINDOW.counted(1500, counted) == Window(4000, bytes_per_token)


def test_after_a_refusal_tokens_are_half_as_long_and_never_of_no_length() -> None:
    window = WINDOW.refused(10_000)
    assert window == Window(4000, BYTES_PER_TOKEN / 2)
    for _ in range(2000):
        window = window.refused(10_000)
    assert window.count(1) > 0


def test_a_window_holds_no_more_than_what_was_refused() -> None:
    """Naive: halve what was promised until it comes down to what is there."""
    assert Window(400_000).refused(40_000).bytes == 40_000
    assert Window(None).refused(40_000).bytes == pytest.approx(40_000, abs=1)


def test_shorter_tokens_leave_less_room() -> None:
    short = Window(4000, 1.5)
    assert short.portion([nudge(1200), nudge(1200)], [], TAG) == Portion(1)
    assert short.portion([nudge(LIMIT_BYTES)], [], TAG) == Portion(1, shown_bytes=1500)
    assert (short.tool_bytes(1), short.summary_bytes, short.count(150)) == (1500, 750, 101)


# ---- the rest


@pytest.mark.parametrize(("used", "full"), [(0, False), (2800, False), (2801, True), (10_000, True)])
def test_a_context_is_nearly_full_above_its_limit(used: int, full: bool) -> None:
    assert WINDOW.nearly_full(used) is full


def test_an_unknown_window_is_never_nearly_full() -> None:
    assert not UNKNOWN.nearly_full(10**9)


def test_the_answers_of_tools_share_a_quarter_and_each_has_room_for_an_error() -> None:
    assert WINDOW.tool_bytes(1) == 3000
    assert WINDOW.tool_bytes(2) == 1500
    assert WINDOW.tool_bytes(20) == MIN_SHOWN_BYTES
    assert WINDOW.tool_bytes(0) == 3000


@given(st.integers(1, 2_000_000))
def test_summary_and_notes_leave_most_of_the_window_free(size: int) -> None:
    window = Window(size)
    assert window.notes_bytes <= window.summary_bytes <= LIMIT_BYTES
    assert window.summary_bytes <= max(size / 8 * BYTES_PER_TOKEN, 1)


def test_an_unknown_window_is_treated_like_one_of_the_usual_size() -> None:
    usual = Window(UNKNOWN_TOKENS)
    assert (UNKNOWN.summary_bytes, UNKNOWN.tool_bytes(3)) == (usual.summary_bytes, usual.tool_bytes(3))


@pytest.mark.parametrize(("text", "count"), [("", 1), ("abc", 2), ("é" * 3, 3), ("\ud800", 1)])
def test_tokens_are_estimated_from_bytes_whatever_the_text(text: str, count: int) -> None:
    assert WINDOW.count(size(text)) == count
