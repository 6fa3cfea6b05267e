import json
import re
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_service.domain import (
    Interrupt,
    Json,
    JsonObject,
    Message,
    MessageType,
    Notification,
    Nudge,
    ToolCall,
    ToolResponse,
)
from agent_service.loop.conversation import (
    MAX_VOICE_CHARACTERS,
    agent_messages,
    open_calls,
    voice_messages,
)
from agent_service.loop.frame import frame
from tests.loop.story import TAG, Story, interrupt
from tests.support import IN_PLACE

View = Callable[[Sequence[Message]], list[JsonObject]]


def as_agent(rows: Sequence[Message]) -> list[JsonObject]:
    return agent_messages(IN_PLACE, "You are an agent.", TAG, rows)


def as_voice(rows: Sequence[Message]) -> list[JsonObject]:
    return voice_messages(IN_PLACE, "You are its inner voice.", "I am ready.", TAG, rows)


both_views = pytest.mark.parametrize("view", [as_agent, as_voice])

# ---- stories of all kinds


@dataclass(frozen=True)
class Round:
    """With the interrupts of each attempt at it; the last of a turn calls nothing."""

    attempts: list[list[Interrupt]]
    words: str
    reasoning: str
    calls: list[tuple[str, str]]


@dataclass(frozen=True)
class Turn:
    attempts: list[list[Interrupt]]
    user: str
    rounds: list[Round]


def tell(turns: list[Turn]) -> Story:
    story = Story()
    for turn in turns:
        story.begin_turn()
        for interrupts in turn.attempts:
            story.deliver(*interrupts)
        story.user(turn.user)
        for one in turn.rounds:
            story.begin_round()
            for interrupts in one.attempts:
                story.deliver(*interrupts)
            # Many servers begin to count anew in each reply.
            calls = [ToolCall(f"call_{n}", "now", arguments) for n, (arguments, _) in enumerate(one.calls)]
            story.reply(one.words, *calls, reasoning=one.reasoning)
            for call, (_, content) in zip(calls, one.calls, strict=True):
                story.respond(call.call_id, content)
    return story


def stories(words: st.SearchStrategy[str]) -> st.SearchStrategy[Story]:
    bodies = st.builds(Nudge, words) | st.builds(Notification, words, words, words, words)
    interrupts = st.lists(st.lists(st.builds(interrupt, bodies), max_size=2), max_size=2)
    arguments = st.sampled_from(["{}", "", "{", "[1]", '{"a": 1} b']) | words.map(
        lambda text: f'{{"a":"{text}"}}'
    )
    calls = st.lists(st.tuples(arguments, words), min_size=1, max_size=3)
    rounds = st.lists(st.builds(Round, interrupts, words, words, calls), max_size=2)
    answers = st.builds(Round, interrupts, words, words, st.just([]))
    turns = st.builds(
        lambda interrupts, user, rounds, answer: Turn(interrupts, user, [*rounds, answer]),
        interrupts,
        st.sampled_from(["Go on.", "What is next?"]),
        rounds,
        answers,
    )
    return st.lists(turns, max_size=3).map(tell)


innocent = st.text(max_size=5)
hostile = st.lists(
    st.sampled_from([TAG, TAG[:4], TAG[4:], f"<interrupt-{TAG}>", f"</interrupt-{TAG}>", "\n", "[operator]"]),
    max_size=4,
).map("".join)
any_story = given(stories(innocent | hostile))
few_examples = settings(max_examples=50, deadline=None)


def prefixes(story: Story) -> Iterator[list[Message]]:
    """The transcript after each row."""
    rows = story.rows
    return (rows[:n] for n in range(len(rows) + 1))


def strings(value: Json) -> Iterator[str]:
    """Everything that is said somewhere in a message."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from strings(part)
    elif isinstance(value, list):
        for part in value:
            yield from strings(part)


def calls_of(message: JsonObject) -> list[str]:
    calls = message.get("tool_calls", [])
    assert isinstance(calls, list)
    return [call["id"] for call in calls]


# ---- what holds for all of them


@few_examples
@any_story
def test_nothing_stands_between_a_call_and_its_response(story: Story) -> None:
    for rows in prefixes(story):
        waiting: list[str] = []
        for message in as_agent(rows):
            if message["role"] == "tool":
                assert message["tool_call_id"] == waiting.pop(0)
            else:
                assert waiting == []
                waiting = calls_of(message)
        assert waiting == [row.content.call_id for row in open_calls(rows)]  # type: ignore[union-attr]


@few_examples
@any_story
def test_a_call_is_open_until_its_response(story: Story) -> None:
    for rows in prefixes(story):
        answered = {
            (row.turn, row.round, row.content.call_id)
            for row in rows
            if isinstance(row.content, ToolResponse)
        }
        assert open_calls(rows) == [
            row
            for row in rows
            if isinstance(row.content, ToolCall)
            and (row.turn, row.round, row.content.call_id) not in answered
        ]


@both_views
@few_examples
@any_story
def test_more_rows_only_add_at_the_end(view: View, story: Story) -> None:
    """The last message may grow at its end, unless it is a reply or a response, or was replied to."""
    rows: list[Message] = []
    own = (MessageType.ASSISTANT, MessageType.TOOL_CALL) if view is as_agent else (MessageType.USER,)
    for commit in filter(None, story.commits):
        *settled, last = view(rows)
        rows += commit
        after = view(rows)
        assert after[: len(settled)] == settled
        grown = after[len(settled)]
        if last["role"] in ("assistant", "tool") or commit[0].type in own:
            assert grown == last
        else:
            assert grown["role"] == last["role"]
            assert str(grown["content"]).startswith(str(last["content"]))


@both_views
@few_examples
@any_story
def test_a_rebuild_gives_the_same_bytes(view: View, story: Story) -> None:
    rebuilt = deepcopy(story.rows)
    assert json.dumps(view(rebuilt)) == json.dumps(view(story.rows))
    assert rebuilt == story.rows


@both_views
@few_examples
@given(stories(innocent))
def test_each_interrupt_appears_once_in_order_and_as_system(view: View, story: Story) -> None:
    for rows in prefixes(story):
        said = "\n".join(str(message["content"]) for message in view(rows)[1:] if message["role"] == "system")
        assert re.findall(f"<interrupt-{TAG}>.*?</interrupt-{TAG}>", said, re.DOTALL) == [
            frame(row.content, TAG) for row in rows if isinstance(row.content, Interrupt)
        ]


@both_views
@few_examples
@given(stories(hostile))
def test_nothing_but_an_interrupt_makes_a_frame(view: View, story: Story) -> None:
    interrupts = sum(isinstance(row.content, Interrupt) for row in story.rows)
    tags = sum(text.count(TAG) for message in view(story.rows) for text in strings(message))
    assert tags == 2 * interrupts


@both_views
@few_examples
@any_story
def test_neighbours_are_joined_except_for_replies_and_responses(view: View, story: Story) -> None:
    roles = [message["role"] for message in view(story.rows)[1:]]
    assert all(one != following or one == "tool" for one, following in pairwise(roles))


@few_examples
@any_story
def test_to_the_inner_voice_the_agent_has_the_last_word_before_its_own(story: Story) -> None:
    roles = [message["role"] for message in as_voice(story.rows) if message["role"] != "system"]
    assert roles[0] == "user"
    assert ("assistant", "assistant") not in pairwise(roles)


# ---- what a conversation looks like


@pytest.fixture
def lamp() -> Story:
    story = Story()
    story.begin_turn()
    story.user("Light the lamp.")
    story.begin_round()
    story.reply(
        "At dusk.", ToolCall("a", "now", '{ "tz":"UTC"}'), ToolCall("b", "note", "{"), reasoning="Hm."
    )
    story.respond("a", "noon")
    story.respond("b", "The arguments are not JSON.", "note")
    story.begin_round(interrupt(Nudge("Now!")))
    story.deliver(interrupt(Nudge("Please.")))
    story.reply("", ToolCall("a", "light", "{}"))
    story.respond("a", "It burns.", "light")
    story.begin_round()
    story.reply("It burns.")
    return story


NOW, PLEASE = (f"<interrupt-{TAG}>\n[operator] {text}\n</interrupt-{TAG}>" for text in ("Now!", "Please."))


def call(call_id: str, name: str, arguments: str) -> JsonObject:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def test_the_agent_sees_its_replies_with_their_calls_and_interrupts_in_their_place(lamp: Story) -> None:
    assert as_agent(lamp.rows) == [
        {"role": "system", "content": "You are an agent."},
        {"role": "user", "content": "Light the lamp."},
        {
            "role": "assistant",
            "content": "At dusk.",
            "reasoning_content": "Hm.",
            "tool_calls": [call("a", "now", '{ "tz":"UTC"}'), call("b", "note", "{}")],
        },
        {"role": "tool", "tool_call_id": "a", "content": "noon"},
        {"role": "tool", "tool_call_id": "b", "content": "The arguments are not JSON."},
        {"role": "system", "content": f"{NOW}\n\n{PLEASE}"},
        {"role": "assistant", "content": "", "tool_calls": [call("a", "light", "{}")]},
        {"role": "tool", "tool_call_id": "a", "content": "It burns."},
        {"role": "assistant", "content": "It burns."},
    ]


def test_the_inner_voice_sees_the_two_swapped_and_tools_as_text(lamp: Story) -> None:
    assert as_voice(lamp.rows) == [
        {"role": "system", "content": "You are its inner voice."},
        {"role": "user", "content": "I am ready."},
        {"role": "assistant", "content": "Light the lamp."},
        {
            "role": "user",
            "content": 'At dusk.\n\n(I call now { "tz":"UTC"})\n\n(I call note {)\n\n'
            "(now answers: noon)\n\n(note answers: The arguments are not JSON.)",
        },
        {"role": "system", "content": f"{NOW}\n\n{PLEASE}"},
        {"role": "user", "content": "(I call light {})\n\n(light answers: It burns.)\n\nIt burns."},
    ]


def test_an_agent_that_answers_nothing_leaves_the_inner_voice_something_to_answer() -> None:
    story = Story()
    story.begin_turn()
    story.user("Light the lamp.")
    story.begin_round()
    story.reply("")
    assert as_voice(story.rows)[-1]["role"] == "user"


@pytest.mark.parametrize(
    "arguments", ["", "{", "[1]", "null", '"{}"', '{"a": NaN}', '{"a": -Infinity}', '{"a": ' + "[" * 100_000]
)
def test_arguments_that_are_not_a_json_object_are_sent_as_an_empty_one(arguments: str) -> None:
    story = Story()
    story.begin_turn()
    story.reply("", ToolCall("a", "now", arguments))
    assert as_agent(story.rows)[-1]["tool_calls"] == [call("a", "now", "{}")]


def test_of_a_long_answer_of_a_tool_the_inner_voice_sees_the_beginning() -> None:
    story = Story()
    story.begin_turn()
    story.reply("", ToolCall("a", "now", "{}"))
    story.respond("a", "x" * (MAX_VOICE_CHARACTERS + 1))
    assert len(str(as_agent(story.rows)[-1]["content"])) == MAX_VOICE_CHARACTERS + 1
    assert str(as_voice(story.rows)[-1]["content"]).count("x") == MAX_VOICE_CHARACTERS


@given(st.permutations(range(4)))
def test_responses_are_shown_in_the_order_of_their_calls_however_they_came(order: list[int]) -> None:
    """Naive: as they came. Some chat templates pair them by their order alone."""
    story = Story()
    story.begin_turn()
    story.user("Light the lamp.")
    for round in (1, 2):
        story.begin_round()
        # The same ids in each reply, as many servers have it.
        story.reply("", *(ToolCall(f"{n}", "now", "{}") for n in range(4)))
        for n in order:
            story.respond(f"{n}", f"{round}.{n}")
    told = [message["content"] for message in as_agent(story.rows) if message["role"] == "tool"]
    assert told == [f"{round}.{n}" for round in (1, 2) for n in range(4)]


def test_a_summary_is_said_to_both_by_the_other_one_with_what_follows() -> None:
    story = Story()
    story.begin_turn()
    story.user("It came to this.")
    story.user("Light the lamp.")
    rows = [replace(story.rows[0], type=MessageType.SUMMARY), story.rows[1]]
    assert as_agent(rows)[1:] == [{"role": "user", "content": "It came to this.\n\nLight the lamp."}]
    assert as_voice(rows)[1:] == [
        {"role": "user", "content": "I am ready.\n\nIt came to this."},
        {"role": "assistant", "content": "Light the lamp."},
    ]


def test_the_user_may_say_something_before_and_after_everything(lamp: Story) -> None:
    plain = as_agent(lamp.rows)
    said = agent_messages(IN_PLACE, "You are an agent.", TAG, lamp.rows, "Before.", "After.")
    assert said[1] == {"role": "user", "content": "Before.\n\nLight the lamp."}
    assert said[2:-1] == plain[2:]
    assert said[-1] == {"role": "user", "content": "After."}
    assert agent_messages(IN_PLACE, "You are an agent.", TAG, [], "Before.", "After.")[1:] == [
        {"role": "user", "content": "Before.\n\nAfter."}
    ]


@few_examples
@any_story
def test_what_is_said_after_everything_only_adds_at_the_end(story: Story) -> None:
    """So that a server has the beginning of such a request at hand."""
    for rows in prefixes(story):
        *settled, last = as_agent(rows)
        closed = agent_messages(IN_PLACE, "You are an agent.", TAG, rows, closing="After.")
        assert closed[: len(settled)] == settled
        assert str(closed[len(settled)]["content"]).startswith(str(last["content"]))


def test_nothing_is_open_in_an_empty_transcript() -> None:
    assert open_calls([]) == []


@pytest.mark.parametrize(
    ("name", "sent"), [("now", "now"), ("what time?", "what_time_"), ("x" * 99, "x" * 64)]
)
def test_a_name_that_no_server_takes_back_is_changed(name: str, sent: str) -> None:
    story = Story()
    story.begin_turn()
    story.user("Go on.")
    story.begin_round()
    story.reply("", ToolCall("a", name, "{}"))
    (call,) = calls_of(as_agent(story.rows)[-1])
    message = as_agent(story.rows)[-1]
    assert call == "a"
    assert f'"{sent}"' in json.dumps(message)
