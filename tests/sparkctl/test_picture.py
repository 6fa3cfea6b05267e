"""The picture is taken of a scripted stream; `make picture` takes it of a real one."""

from xml.etree import ElementTree

import pytest

from sparkctl.demo import NUDGE
from sparkctl.failures import CommandFailed
from sparkctl.picture import taken
from tests.sparkctl.events import Script, delta, nudge

LIGHT_BLUE, DARK_BLUE = "#87d7ff", "#0000d7"
ANSWER = "The trawler has the lamp. " * 5


def notification(state="PENDING"):
    interrupt = nudge(state)
    interrupt.interrupt_id = "another"
    interrupt.notification.type = "finetune.finished"
    return interrupt


def until_the_answer():
    script = Script().session().turn().voice("Open the log.").round().calls("now").starts("now")
    script.responds("now", "02:00").round(2).interrupt("posted", nudge()).says("I open it.", 2)
    script.interrupt("delivered", nudge("DELIVERED")).round(3).interrupt("seen", nudge("SEEN"))
    return script.interrupt("posted", notification())


async def test_it_shows_a_nudge_that_was_seen_and_a_notification_that_waits(scripted, agent, door):
    scripted.agent.streams = [[*until_the_answer(), delta(ANSWER, round_=3)]]

    picture = ElementTree.fromstring(await taken(agent, door))

    said = "".join(picture.itertext()).replace("\xa0", " ")
    assert "seen by the model at" in said
    assert "notifies: finetune.finished" in said
    assert "The trawler has the lamp." in said
    assert {LIGHT_BLUE, DARK_BLUE} <= {element.get("fill") for element in picture.iter()}
    nudged, notified = scripted.gateway.posted
    assert nudged.interrupt.nudge.text == NUDGE
    assert notified.interrupt.notification.type == "finetune.finished"


async def test_it_fetches_nothing(scripted, agent, door):
    scripted.agent.streams = [[*until_the_answer(), delta(ANSWER, round_=3)]]

    assert (await taken(agent, door)).count("//") == 1, "the name of the format"


async def test_it_is_not_taken_before_the_answer_is_under_way(scripted, agent, door):
    events = until_the_answer().session("ENDED")
    scripted.agent.streams = [[*events[:-1], delta("The trawler", round_=3), events[-1]]]

    with pytest.raises(CommandFailed, match="the session ended before"):
        await taken(agent, door)


async def test_a_moment_that_is_missed_is_an_error(scripted, agent, door):
    scripted.agent.streams = [until_the_answer().interrupt("delivered", notification("DELIVERED"))]

    with pytest.raises(CommandFailed, match="missed"):
        await taken(agent, door)
