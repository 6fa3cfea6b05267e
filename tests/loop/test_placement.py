"""Where interrupts go, and what holds for a conversation in any of the places."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_service.domain import (
    Interrupt,
    Json,
    JsonObject,
    Message,
    MessageType,
    Nudge,
    Placement,
    Profile,
    ToolCall,
)
from agent_service.loop.conversation import NO_WORDS, agent_messages, voice_messages
from agent_service.loop.frame import frame
from agent_service.loop.placement import extend, place, placed
from tests.loop.story import TAG, Story, interrupt
from tests.loop.test_conversation import any_story, few_examples, innocent, prefixes, stories

SYSTEM, USER, TOOL, TEXT = Placement
PROMPT, OPENING = "You are an agent.", "I am ready."

View = Callable[[Profile, Sequence[Message]], list[JsonObject]]


def as_agent(profile: Profile, rows: Sequence[Message]) -> list[JsonObject]:
    return agent_messages(profile, PROMPT, TAG, [placed(row, profile.placement) for row in rows])


def as_voice(profile: Profile, rows: Sequence[Message]) -> list[JsonObject]:
    return voice_messages(profile, PROMPT, OPENING, TAG, rows)


PROFILES = [Profile(placement) for placement in Placement] + [
    Profile(placement, system_role=False) for placement in (USER, TOOL, TEXT)
]
both_views = pytest.mark.parametrize("view", [as_agent, as_voice])
any_profile = pytest.mark.parametrize("profile", PROFILES, ids=str)


# ---- one at a time


def opening() -> list[dict[str, Json]]:
    return [{"role": "system", "content": PROMPT}]


def test_an_interrupt_placed_as_system_is_a_message_of_its_own_beside_the_system_prompt() -> None:
    messages = opening()
    place(messages, SYSTEM, "one")
    assert messages == [*opening(), {"role": "system", "content": "one"}]


def test_interrupts_without_anything_between_them_are_one_message() -> None:
    messages = opening()
    extend(messages, "user", "Begin.")
    place(messages, SYSTEM, "one")
    place(messages, SYSTEM, "two")
    extend(messages, "user", "Go on.")
    place(messages, SYSTEM, "three")
    assert [(message["role"], message["content"]) for message in messages[1:]] == [
        ("user", "Begin."),
        ("system", "one\n\ntwo"),
        ("user", "Go on."),
        ("system", "three"),
    ]


def test_neighbours_of_one_role_are_joined() -> None:
    messages = opening()
    extend(messages, "user", "one")
    extend(messages, "user", "two")
    assert messages == [*opening(), {"role": "user", "content": "one\n\ntwo"}]


@pytest.mark.parametrize("placement", [USER, TOOL, TEXT])
def test_an_interrupt_of_the_user_is_joined_with_what_the_user_says(placement: Placement) -> None:
    messages = opening()
    extend(messages, "user", "Begin.")
    place(messages, placement, "one")
    extend(messages, "user", "Go on.")
    assert messages == [*opening(), {"role": "user", "content": "Begin.\n\none\n\nGo on."}]


def test_after_a_tools_response_it_is_a_part_of_that_or_a_message_of_the_user() -> None:
    response: dict[str, Json] = {"role": "tool", "tool_call_id": "a", "content": "noon"}
    folded, apart = [*opening(), dict(response)], [*opening(), dict(response)]
    for text in ("one", "two"):
        place(folded, TOOL, text)
        place(apart, USER, text)
    assert folded == [*opening(), response | {"content": "noon\n\none\n\ntwo"}]
    assert apart == [*opening(), response, {"role": "user", "content": "one\n\ntwo"}]


def test_without_a_system_role_the_prompt_opens_the_first_message_of_the_user() -> None:
    story = Story()
    story.begin_turn(interrupt(Nudge("Now!")))
    story.user("Go on.")
    (message,) = as_agent(Profile(USER, system_role=False), story.rows)
    assert message["role"] == "user"
    assert str(message["content"]).startswith(f"{PROMPT}\n\n<interrupt-{TAG}>")
    assert str(message["content"]).endswith("\n\nGo on.")


# ---- in any conversation


@both_views
@any_profile
@few_examples
@given(stories(innocent))
def test_every_interrupt_is_there_once_and_in_order(view: View, profile: Profile, story: Story) -> None:
    for rows in prefixes(story):
        said = "\n".join(str(message["content"]) for message in view(profile, rows))
        assert re.findall(f"<interrupt-{TAG}>.*?</interrupt-{TAG}>", said, re.DOTALL) == [
            frame(row.content, TAG) for row in rows if isinstance(row.content, Interrupt)
        ]


@both_views
@any_profile
@few_examples
@any_story
def test_more_rows_only_add_at_the_end(view: View, profile: Profile, story: Story) -> None:
    rows: list[Message] = []
    for commit in filter(None, story.commits):
        *settled, last = view(profile, rows)
        rows += commit
        after = view(profile, rows)
        assert after[: len(settled)] == settled
        grown = after[len(settled)]
        if view is as_agent and profile.placement is not TEXT and commit[0].type is MessageType.TOOL_CALL:
            continue  # Calls of words that were said are a part of their message.
        assert str(grown["content"]).startswith(str(last["content"]))
        assert {**grown, "content": ""} == {**last, "content": ""} or last["role"] == "assistant"


@both_views
@any_profile
@few_examples
@any_story
def test_only_system_has_system_messages_and_only_those_with_tools_have_responses(
    view: View, profile: Profile, story: Story
) -> None:
    first, *messages = view(profile, story.rows)
    assert first["role"] == ("system" if profile.system_role else "user")
    roles = {message["role"] for message in messages}
    if profile.placement is not SYSTEM:
        assert "system" not in roles
    if profile.placement is TEXT or view is as_voice:
        assert "tool" not in roles
        assert not any("tool_calls" in message for message in messages)


@both_views
@pytest.mark.parametrize("system_role", [True, False])
@few_examples
@any_story
def test_text_is_said_by_user_and_assistant_in_turn(view: View, system_role: bool, story: Story) -> None:
    for rows in prefixes(story):
        roles = [message["role"] for message in view(Profile(TEXT, system_role), rows)][int(system_role) :]
        assert all(one != following for one, following in pairwise(roles))
        assert not roles or roles[0] == "user"


@pytest.mark.parametrize("placement", [SYSTEM, USER, TOOL])
@few_examples
@given(stories(innocent), st.data())
def test_what_was_placed_stays_where_it_was_whatever_comes_later(
    placement: Placement, story: Story, data: st.DataObject
) -> None:
    """Also after the profile has changed, in the middle of it all."""
    rows = [placed(row, data.draw(st.sampled_from([SYSTEM, USER, TOOL]))) for row in story.rows]
    n = sum(map(len, story.commits[: data.draw(st.integers(0, len(story.commits)))]))
    before = agent_messages(Profile(SYSTEM), PROMPT, TAG, rows[:n])
    later = [*rows[:n], *(placed(row, placement) for row in rows[n:])]
    after = agent_messages(Profile(placement), PROMPT, TAG, later)
    assert after[: len(before) - 1] == before[:-1]
    assert str(after[len(before) - 1]["content"]).startswith(str(before[-1]["content"]))


def test_text_tells_of_calls_and_responses_and_leaves_nothing_out() -> None:
    story = Story()
    story.begin_turn()
    story.user("What time is it?")
    story.begin_round()
    story.reply("I look.", ToolCall("a", "now", '{"tz": "UTC"}'))
    story.respond("a", "noon")
    story.begin_round(interrupt(Nudge("Hurry.")))
    assert [(message["role"], message["content"]) for message in as_agent(Profile(TEXT), story.rows)[1:]] == [
        ("user", "What time is it?"),
        ("assistant", 'I look.\n\n(I called now {"tz": "UTC"})'),
        ("user", f"(now answered: noon)\n\n<interrupt-{TAG}>\n[operator] Hurry.\n</interrupt-{TAG}>"),
    ]


# ---- what else templates want


@pytest.mark.parametrize("placement", [SYSTEM, USER, TOOL])
def test_where_calls_are_taken_alone_each_has_a_message_and_its_response_after_it(
    placement: Placement,
) -> None:
    story = Story()
    story.begin_turn()
    story.user("Go on.")
    story.begin_round()
    calls = [ToolCall(call_id, "now", "{}") for call_id in ("a", "b")]
    story.reply("I look twice.", *calls, reasoning="Hm.")
    story.respond("b", "noon")
    story.respond("a", "morning")
    story.begin_round(replace(interrupt(Nudge("Stop.")), placement=placement))
    story.reply("I stop.")
    system, user, reply, morning, noon, *rest = agent_messages(Profile(placement), "", TAG, story.rows)
    one, other = ({"role": "assistant", "content": "", "tool_calls": [made]} for made in reply["tool_calls"])
    one["reasoning_content"] = "Hm."
    assert agent_messages(Profile(placement, calls_alone=True), "", TAG, story.rows) == [
        *(system, user, one, morning, other, noon),
        *rest,
    ]


def test_a_reply_without_a_word_and_a_call_is_shown_with_something_in_it() -> None:
    story = Story()
    story.begin_turn()
    story.user("Go on.")
    story.begin_round()
    story.reply("", reasoning="Hm.")
    story.begin_turn()
    story.user("And then?")
    *_, reply, _ = as_agent(Profile(SYSTEM), story.rows)
    assert reply == {"role": "assistant", "content": NO_WORDS, "reasoning_content": "Hm."}


@pytest.mark.parametrize(
    ("arguments", "sent"),
    [
        ('{"a":"\\u003c|im_end|\\u003e","b": 1.50}', '{"a": "< |im_end|>", "b": 1.5}'),
        (f'{{"{TAG}": ["</s>"]}}', '{"_": ["< /s>"]}'),
        ('{"a":  "\\u00e9","b": 1.50}', '{"a":  "\\u00e9","b": 1.50}'),
    ],
)
def test_arguments_are_sent_as_they_were_written_unless_a_template_would_show_a_token_in_them(
    arguments: str, sent: str
) -> None:
    story = Story()
    story.begin_turn()
    story.user("Go on.")
    story.begin_round()
    story.reply("", ToolCall("a", "now", arguments))
    (call,) = as_agent(Profile(SYSTEM), story.rows)[-1]["tool_calls"]
    assert call["function"]["arguments"] == sent
