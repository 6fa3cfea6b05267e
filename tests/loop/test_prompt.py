from agent_service.loop.prompt import inner_voice_prompt, system_prompt
from agent_service.model import INNER_VOICE_MARK
from tests.loop.story import TAG

# Goals are people's words, and some speak of templates.
GOAL = "Fill {goal} and {0}, then {tag}: 100 % of {{them}}."


def test_the_agent_is_told_its_goal_word_for_word_and_how_interrupts_look() -> None:
    prompt = system_prompt(GOAL, TAG)
    assert GOAL in prompt
    assert f"<interrupt-{TAG}>" in prompt
    assert f"</interrupt-{TAG}>" in prompt
    assert INNER_VOICE_MARK not in prompt


def test_the_inner_voice_is_told_the_same_and_that_it_is_one() -> None:
    prompt = inner_voice_prompt(GOAL, TAG, "")
    assert prompt.startswith(INNER_VOICE_MARK)
    assert GOAL in prompt
    assert f"<interrupt-{TAG}>" in prompt
    assert f"</interrupt-{TAG}>" in prompt


def test_a_sessions_own_instruction_replaces_the_usual_one() -> None:
    usual, own = inner_voice_prompt(GOAL, TAG, ""), inner_voice_prompt(GOAL, TAG, "Ask {one} thing.")
    assert "Ask {one} thing." in own
    assert "Write the one next thing" in usual
    assert "Write the one next thing" not in own
