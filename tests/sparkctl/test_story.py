import pytest

from sparkctl.story import Story
from tests.sparkctl.events import Script, nudge

FACTS = ("posted", "delivered", "seen")
STATES = {"posted": "PENDING", "delivered": "DELIVERED", "seen": "SEEN", "settled": "CANCELLED"}


def missing(script):
    story = Story(nudge())
    for event in script:
        story.hear(event)
    return story.missing()


def told(*facts):
    script = Script()
    for fact in facts:
        script.interrupt(fact, nudge(STATES[fact]))
    return script


@pytest.mark.parametrize(
    "answered",
    [
        told(*FACTS).says("The operator says: watch the trawler. I do."),
        told(*FACTS).says("Aye.").calls("note", '{"text": "Watch the trawler."}'),
    ],
    ids=["in words", "in a note"],
)
def test_a_nudge_that_is_seen_and_answered_leaves_nothing_missing(answered):
    assert missing(answered) == []


@pytest.mark.parametrize(
    "facts",
    [(), FACTS[:1], FACTS[:2], (*FACTS, "seen"), ("posted", "delivered", "delivered", "seen"),
     ("posted", "seen", "delivered"), ("posted", "settled")],
)  # fmt: skip
def test_each_fact_must_come_once_and_in_order(facts):
    (what, *_) = missing(told(*facts))

    assert what.startswith("the nudge should be pending, delivered, seen; what came was")


@pytest.mark.parametrize(
    "script",
    [
        told(*FACTS).says("All is well."),
        told(*FACTS).says("All is well.").says("Watch the trawler.", round_=2),
        told(*FACTS).voice("Watch the trawler."),
        told(*FACTS[:2]).says("Watch the trawler.").interrupt("seen", nudge("SEEN")),
    ],
    ids=["never", "a round later", "by the inner voice", "before it was seen"],
)
def test_the_next_reply_must_mention_the_nudge(script):
    assert missing(script) == ["the agent's next reply does not mention the nudge"]


def test_other_interrupts_do_not_count():
    other = nudge()
    other.interrupt_id = "another"

    assert missing(told(*FACTS).interrupt("posted", other).says("Watch the trawler.")) == []
