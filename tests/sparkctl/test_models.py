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
        "interrupts": "user: as messages of the user, joined with one beside them",
        "system": "the model has no system role: its first message of the user holds the system prompt",
        "known by": "its server showed the prompts that it makes",
        "tried": "system: is refused after a tool's response (400:�[2J no)\nuser: arrives",
        "note": "Nobody looked at the reasoning.",
        "not known": "whether the model heeds what it is shown there: no check tells, only its work does",
    }


def test_it_says_why_nothing_could_be_found_out_and_what_to_do():
    check = ModelCheck(model="local", failure="Nobody is there.", check_time=at(10))
    heading, failure, advice = models.rows(check)
    assert heading.text.startswith("local at ")
    assert (failure.tone, failure.label, failure.text) == (Tone.PROBLEM, "failed", "Nobody is there.")
    assert advice.text.startswith("mend the server, or [models.local] in spark.toml and start")


def test_who_knows_better_than_a_guess_can_say_so():
    check = ModelCheck(model="local", placement="PLACEMENT_TOOL", evidence="EVIDENCE_GUESSED")
    assert said(check)["to do"].endswith("set placement in [models.local] in spark.toml")


@pytest.mark.parametrize(("placement", "advised"), [("SYSTEM", True), ("USER", False)])
def test_a_place_that_is_configured_and_was_in_trouble_is_to_be_taken_out(placement, advised):
    check = ModelCheck(
        model="local",
        placement=f"PLACEMENT_{placement}",
        evidence="EVIDENCE_CONFIGURED",
        trials=CHECK.trials,
    )
    assert ("take placement out of [models.local]" in said(check).get("to do", "")) == advised


@pytest.mark.parametrize("number", [*Placement.values(), 99])
def test_every_place_has_words_and_one_of_a_newer_service_its_number(number):
    words = said(ModelCheck(placement=number))["interrupts"]
    assert words == "99: unknown to this sparkctl" if number == 99 else " " in words


@pytest.mark.parametrize("number", [*Evidence.values()[1:], 99])
def test_every_way_of_knowing_has_words(number):
    words = said(ModelCheck(evidence=number))["known by"]
    assert words == "99" if number == 99 else " " in words


@pytest.mark.parametrize("number", [*Trouble.values(), 99])
def test_every_trouble_has_words(number):
    trial = PlacementTrial(placement="PLACEMENT_SYSTEM", trouble=number)
    assert said(ModelCheck(trials=[trial]))["tried"].startswith("system: ")
