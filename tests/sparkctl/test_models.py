from datetime import UTC

import pytest

from spark.agent.v1.model_pb2 import Evidence, ModelCheck, Placement, PlacementTrial, Trouble
from sparkctl import models
from sparkctl.rows import Tone
from tests.sparkctl.events import at

CHECK = ModelCheck(
    model="local",
    served_model="qwen3",
    placement="PLACEMENT_USER",
    system_role=False,
    evidence="EVIDENCE_RENDERED",
    trials=[
        PlacementTrial(
            placement="PLACEMENT_SYSTEM",
            trouble="TROUBLE_REFUSED",
            where="after a tool's response",
            detail="400:\x1b[2J no",
        ),
        PlacementTrial(placement="PLACEMENT_USER"),
    ],
    remarks=["Nobody looked at the reasoning."],
    check_time=at(10),
)


def said(check: ModelCheck) -> dict[str, str]:
    return {row.label: row.text for row in models.rows(check, UTC)}


async def test_a_check_is_asked_for_by_name(scripted, agent):
    scripted.agent.checks["local"] = CHECK
    assert await models.check(agent, "local") == CHECK


def test_it_says_what_was_found_how_and_what_could_not_be():
    assert said(CHECK) == {
        "": "local (qwen3) at 02:00:10",
        "interrupts": "as messages of the user, joined with one beside them",
        "system": "the model has no system role: its first message of the user holds the system prompt",
        "known by": "its server showed the prompts that it makes",
        "tried": "system: the request is refused after a tool's response (400:�[2J no)\nuser: does",
        "note": "Nobody looked at the reasoning.",
    }


def test_it_says_why_nothing_could_be_found_out():
    heading, failure = models.rows(ModelCheck(model="local", failure="Nobody is there.", check_time=at(10)))
    assert heading.text.startswith("local at ")
    assert (failure.tone, failure.label, failure.text) == (Tone.PROBLEM, "unknown", "Nobody is there.")


@pytest.mark.parametrize("number", [*Placement.values(), 99])
def test_every_place_has_words_and_one_of_a_newer_service_its_number(number):
    words = said(ModelCheck(placement=number))["interrupts"]
    assert words == "99" if number == 99 else " " in words


@pytest.mark.parametrize("number", [*Evidence.values()[1:], 99])
def test_every_way_of_knowing_has_words(number):
    words = said(ModelCheck(evidence=number))["known by"]
    assert words == "99" if number == 99 else " " in words


@pytest.mark.parametrize("number", [*Trouble.values(), 99])
def test_every_trouble_has_words(number):
    trial = PlacementTrial(placement="PLACEMENT_SYSTEM", trouble=number)
    assert said(ModelCheck(trials=[trial]))["tried"].startswith("system: ")
