"""What is found out about chat templates by looking at the prompts that they make."""

from datetime import timedelta

import pytest

from agent_service.domain import Evidence, Finding, Placement, Profile, RoundFailure, Trouble
from agent_service.loop.probe import CALLS_ALONE, NO_TOOLS, Probe, shows, trouble
from agent_service.loop.scenes import GOES_ON, SCENES
from agent_service.model import ModelError, Request
from tests.servers.chat_template import OWN, ChatTemplate, TemplateModel, own, own_template

SYSTEM, USER, TOOL, TEXT = Placement

IN_ROLE, IN_USER = True, False
AFTER_TOOL = "after a tool's response"

# The template, its profile, and what is wrong with the places above it.
FOUND = {
    "takes_system": (SYSTEM, IN_ROLE, []),
    "tells_the_time": (SYSTEM, IN_ROLE, []),
    "hides_tools": (SYSTEM, IN_ROLE, []),
    "repeats_tools": (SYSTEM, IN_ROLE, []),
    "says_late_system_as_the_user": (SYSTEM, IN_ROLE, []),
    "takes_calls_alone": (SYSTEM, IN_ROLE, []),
    "thinks_first": (SYSTEM, IN_ROLE, []),
    "wants_short_ids": (SYSTEM, IN_ROLE, []),
    "refuses_late_system": (USER, IN_ROLE, [Trouble.REFUSED]),
    "drops_late_system": (USER, IN_ROLE, [Trouble.DROPPED]),
    "doubles_late_system": (USER, IN_ROLE, [Trouble.DOUBLED]),
    "moves_system_first": (USER, IN_ROLE, [Trouble.MOVED]),
    "last_system_wins": (USER, IN_ROLE, [Trouble.DISPLACES]),
    "shows_system_bare": (USER, IN_ROLE, [Trouble.UNMARKED]),
    "keeps_the_first_system": (USER, IN_ROLE, [Trouble.DROPPED]),
    "says_late_system_as_the_assistant": (USER, IN_ROLE, [Trouble.UNMARKED]),
    "opens_after_user_and_tools": (USER, IN_ROLE, [Trouble.UNOPENED]),
    "folds_system_into_the_user": (USER, IN_ROLE, [Trouble.REFUSED]),
    "has_no_system_role": (USER, IN_USER, [Trouble.UNKNOWN_ROLE]),
    "forgets_reasoning": (TOOL, IN_ROLE, [Trouble.REFUSED, Trouble.DISPLACES]),
    "quotes_tools": (TOOL, IN_ROLE, [Trouble.REFUSED, Trouble.DISPLACES]),
    "moves_tools_to_the_last_user": (TOOL, IN_ROLE, [Trouble.REFUSED, Trouble.REWRITES]),
    "wants_the_assistant_after_tools": (TOOL, IN_ROLE, [Trouble.REFUSED, Trouble.REFUSED]),
    "alternates": (TEXT, IN_ROLE, [Trouble.UNKNOWN_ROLE] * 3),
    "alternates_without_system": (TEXT, IN_USER, [Trouble.UNKNOWN_ROLE] * 3),
    "ignores_tools": (TEXT, IN_ROLE, [Trouble.UNKNOWN_ROLE] * 3),
    "names_roles_in_words": (TEXT, IN_ROLE, [Trouble.UNKNOWN_ROLE] * 3),
}


async def found_for(model: TemplateModel) -> Finding | None:
    async def render(request: Request) -> str:
        prompt = await model.render(request)
        assert prompt is not None
        return prompt

    return await Probe(render).find()


@pytest.mark.parametrize("name", FOUND)
async def test_the_first_place_is_found_in_which_interrupts_arrive_whole(name: str) -> None:
    placement, system_role, troubles = FOUND[name]
    found = await found_for(own(name))
    assert found
    calls_alone = name == "takes_calls_alone"
    assert found.profile == Profile(placement, system_role, calls_alone)
    assert found.evidence is Evidence.RENDERED
    assert [trial.trouble for trial in found.trials] == [*troubles, None]
    assert [trial.placement for trial in found.trials] == list(Placement)[: len(troubles) + 1]


def test_every_template_of_the_tests_is_judged() -> None:
    assert {path.stem for path in OWN.glob("*.jinja")} == set(FOUND)


async def test_a_refusal_is_told_with_its_position_and_the_servers_words() -> None:
    found = await found_for(own("refuses_late_system"))
    assert found
    refused = found.trials[0]
    assert refused.where == AFTER_TOOL
    assert "System message must be at the beginning." in refused.detail


async def test_a_server_that_does_not_show_the_tools_is_told_of() -> None:
    hidden, shown = await found_for(own("hides_tools")), await found_for(own("takes_system"))
    assert hidden
    assert shown
    assert (hidden.remarks, shown.remarks) == ((NO_TOOLS,), ())


async def test_a_clock_that_runs_while_prompts_are_made_changes_nothing() -> None:
    model = own("tells_the_time")
    template = model.template

    class Running(ChatTemplate):
        def prompt(self, request: Request) -> str:
            self.now += timedelta(seconds=7)
            return super().prompt(request)

    model.template = Running(template.source)
    found = await found_for(model)
    assert found
    assert found.profile == Profile(SYSTEM)


async def test_where_calls_must_be_alone_that_is_told() -> None:
    found = await found_for(own("takes_calls_alone"))
    assert found
    assert found.remarks == (CALLS_ALONE,)


async def test_what_a_server_never_takes_is_not_held_against_interrupts() -> None:
    """Such as an answer without a call."""
    picky = own_template("takes_system").replace(
        "{%- for message in messages %}\n",
        "{%- for message in messages %}\n"
        "{%- if message.role == 'assistant' and not message.tool_calls %}"
        "{{- raise_exception('Call something.') }}{% endif %}\n",
        1,
    )
    found = await found_for(TemplateModel(ChatTemplate(picky)))
    assert found
    assert found.profile == Profile(SYSTEM)


async def test_a_server_that_takes_nothing_leaves_nothing_to_be_found() -> None:
    assert await found_for(TemplateModel(ChatTemplate("{{ raise_exception('Never.') }}"))) is None


async def test_a_server_that_goes_away_in_between_is_told_as_such() -> None:
    async def render(request: Request) -> str:
        raise ModelError(RoundFailure.MODEL_UNAVAILABLE, "nobody there")

    with pytest.raises(ModelError, match="nobody there"):
        await Probe(render).find()


# ---- the judgement, prompt by prompt

SCENE, ALONE = GOES_ON, SCENES[0]


def prompt(*words: str) -> str:
    return " | ".join(words)


BEFORE, NEW, AFTER = SCENE.words_before, SCENE.new_words, SCENE.words_after
MEASURE = prompt(*BEFORE, *AFTER, "and then?")


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ((*BEFORE, *NEW, *AFTER, "and then?"), None),
        ((*BEFORE, "system:", *NEW, "end", *AFTER), None),
        ((*BEFORE, *AFTER), Trouble.DROPPED),
        ((*BEFORE, *NEW, *AFTER, *NEW), Trouble.DOUBLED),
        ((*NEW, *BEFORE, *AFTER), Trouble.MOVED),
        ((*BEFORE, *AFTER, *NEW), Trouble.MOVED),
        ((*BEFORE[1:], *NEW, *AFTER), Trouble.DISPLACES),
        ((*BEFORE, *NEW, *AFTER[1:]), Trouble.DISPLACES),
        ((*reversed(BEFORE), *NEW, *AFTER), Trouble.MOVED),
        (("now with a preface", *BEFORE, *NEW, *AFTER), Trouble.REWRITES),
        ((BEFORE[0], "tools", *BEFORE[1:], *NEW, *AFTER), Trouble.REWRITES),
    ],
)
def test_a_prompt_is_measured_by_the_one_without_the_news(
    told: tuple[str, ...], expected: Trouble | None
) -> None:
    assert trouble(SCENE, MEASURE, prompt(*told)) is expected


def test_what_the_measure_leaves_out_is_not_missed() -> None:
    silent = prompt(BEFORE[0], BEFORE[-1])
    assert trouble(SCENE, silent, prompt(BEFORE[0], BEFORE[-1], *NEW)) is None


def test_a_conversation_is_shown_if_prompt_user_and_tools_are_in_their_order() -> None:
    needed = ALONE.needed
    assert shows(ALONE, prompt(*needed))
    assert shows(ALONE, prompt("x", *needed, "y"))
    for gone in range(len(needed)):
        assert not shows(ALONE, prompt(*needed[:gone], *needed[gone + 1 :]))
    assert not shows(ALONE, prompt(*reversed(needed)))


# ---- the scenes


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.where)
def test_a_scene_has_news_and_every_word_of_it_once(scene) -> None:
    told = [*scene.words_before, *scene.new_words, *scene.words_after]
    assert scene.news
    assert len(set(told)) == len(told)
    said = str(scene.request(Profile(SYSTEM)).messages)
    assert all(said.count(word) == 1 for word in told)
    without = str(scene.request_without_news(Profile(SYSTEM)).messages)
    assert [word for word in told if word not in without] == scene.new_words


def test_the_positions_of_a_session_are_all_there() -> None:
    """The roles before an interrupt, and those after it."""
    positions = {
        (
            scene.rows_before[-1].type.value if scene.rows_before else "",
            scene.rows_after[0].type.value if scene.rows_after else "",
        )
        for scene in SCENES
    }
    assert positions == {
        ("", "user"),
        ("user", ""),
        ("tool_response", ""),
        ("tool_response", "assistant"),
        ("assistant", "user"),
    }
