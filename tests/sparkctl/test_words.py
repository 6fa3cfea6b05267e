from datetime import UTC, timedelta

import pytest

from spark.agent.v1.interrupt_pb2 import Delivery
from sparkctl.words import age, ahead, brief, cut, facts, visible, word
from tests.sparkctl.events import at, nudge


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(-5, "0 s"), (59, "59 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (172_800, "2 d")],
)
def test_an_age_and_a_time_ahead_are_told_in_the_largest_unit_that_says_enough(seconds, said):
    assert age(at(0), at(0).ToDatetime(UTC) + timedelta(seconds=seconds)) == said
    assert ahead(at(0), at(0).ToDatetime(UTC) - timedelta(seconds=seconds)) == said


def test_a_short_text_is_left_whole():
    assert cut("one\ntwo") == "one\ntwo"
    assert brief("one\n two") == "one two"


def test_a_long_line_is_cut_too():
    assert cut("x" * 1005) == "x" * 1000 + "\n… 5 more characters"
    assert brief("x" * 61) == "x" * 59 + "…"


def test_text_in_any_script_passes():
    assert visible("naïve 日本 👩‍🚀 שלום\tok\n") == "naïve 日本 👩‍🚀 שלום\tok\n"


def test_an_enum_value_that_this_program_does_not_know_is_its_number():
    assert word(Delivery.DESCRIPTOR, Delivery.DELIVERY_NEXT_TURN) == "next turn"
    assert word(Delivery.DESCRIPTOR, 99) == "99"


def test_the_facts_of_a_settled_interrupt_end_with_the_reason():
    interrupt = nudge("CANCELLED")
    interrupt.settle_reason = "the session ended"

    assert facts(interrupt, UTC) == [
        "pending since 02:00:10",
        "cancelled at 02:00:14: the session ended",
    ]
