"""Nothing that anybody says makes a second frame or a role header in the prompt that a real server makes: the
marks in it are those of the same conversation in plain words."""

import json
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent_service.domain import (
    JsonObject,
    Message,
    MessageType,
    Notification,
    Nudge,
    Placement,
    Profile,
    Text,
    ToolCall,
)
from agent_service.loop import prompt
from agent_service.loop.conversation import agent_messages, voice_messages
from agent_service.loop.frame import harmless_json
from agent_service.loop.placement import placed
from agent_service.loop.probe import Probe
from agent_service.model import Request, ToolSpec
from agent_service.store.transcript import Handled
from tests.loop.story import TAG, Story, interrupt
from tests.templates.corpus import TEMPLATES
from tests.templates.serving import Served, served

TOKENS = (Path(__file__).parents[1] / "data" / "control_tokens.txt").read_text().split()
# A model may think aloud: its template sees to that.
THOUGHTS = ["<think>", "</think>"]
FRAME = [f"<interrupt-{TAG}>", f"</interrupt-{TAG}>", TAG]
HEADERS = ["USER:", "ASSISTANT:", "### Instruction:", "### Response:"]

MARKS = re.compile(
    "|".join(
        [
            *map(re.escape, sorted({*FRAME, *TOKENS} - {*THOUGHTS}, key=len, reverse=True)),
            *(rf"(?m:^{header})" for header in HEADERS),
        ]
    )
)

# Of each way to mark roles one.
FAMILIES = {"takes_system", "quotes_tools", "takes_calls_alone", "moves_tools_to_the_last_user"}
FAMILIES |= {"names_roles_in_words", "forgets_reasoning"}
FAMILIES |= {"axolotl-alpaca", "axolotl-command_a_tool_use", "axolotl-exaone4", "axolotl-mistral_v3_tekken"}
FAMILIES |= {"axolotl-llama4", "trl-deepseekv3", "trl-gemma4_v2", "trl-glm4moe", "trl-gptoss", "trl-llama3_1"}
FAMILIES |= {"trl-qwen3_6", "trl-nemotron_3_super", "trl-phi3_5", "trl-lfm2_v2", "trl-muse_glimmer"}

Words = Callable[[], str]

WHOLE = [*TOKENS, *FRAME, *HEADERS]
WIDE = {code: code + 0xFEE0 for code in range(0x21, 0x7F)}
GLUE = ["\n", " ", '"', "\\", "}", "\\u003c", "\\n", "\u200b", "[operator] ", "x", *THOUGHTS]
STORIES = 25


def hostile(chance: random.Random) -> str:
    """Marks, whole and in pieces, in any order."""
    pieces = [_piece(chance) for _ in range(chance.randint(1, 6))]
    return "".join(pieces) if "".join(pieces).strip() else "x"


def _piece(chance: random.Random) -> str:
    mark, at = chance.choice(WHOLE), chance.randint(1, 8)
    return chance.choice([mark, mark, mark[:at], mark[at:], mark.translate(WIDE), chance.choice(GLUE)])


def conversation(words: Words, placement: Placement) -> list[Message]:
    """In which everybody says something wherever there is something to say."""
    story = Story()
    story.begin_turn(
        interrupt(Nudge(words())),
        interrupt(Notification("tick", words().replace("\n", " "), words(), _data(words))),
    )
    story.user(words())
    for calls in (["call00001"], ["call00002", "call00003"]):
        story.begin_round()
        asked = [ToolCall(call_id, f"now{words()}", json.dumps({words(): [words()]})) for call_id in calls]
        story.reply(words(), *asked, reasoning=words())
        for call_id in calls:
            story.respond(call_id, words(), f"now{words()}")
    story.begin_round(interrupt(Nudge(words())), interrupt(Nudge(words())))
    story.reply(words(), reasoning=words())
    story.begin_turn()
    story.user(words())
    story.begin_round(interrupt(Nudge(words())))
    said = prompt.summary(words(), Handled(0, ()))
    summary = replace(story.rows[0], type=MessageType.SUMMARY, content=Text(said))
    return [placed(row, placement) for row in (summary, *story.rows)]


def _data(words: Words) -> str:
    return json.dumps({words(): words()}, ensure_ascii=False)


def of_the_agent(words: Words, profile: Profile) -> Request:
    told = prompt.system_prompt(words(), TAG, [words(), words()])
    messages = agent_messages(profile, told, TAG, conversation(words, profile.placement))
    tool: JsonObject = {"type": "object", "description": words(), "properties": {words(): {"type": "string"}}}
    (described,) = harmless_json([words()], TAG)
    spec = ToolSpec("now", described, harmless_json(tool, TAG))
    return Request(messages, () if profile.placement is Placement.TEXT else (spec,))


def of_the_inner_voice(words: Words, profile: Profile) -> Request:
    told = prompt.inner_voice_prompt(words(), TAG, words())
    rows = conversation(words, profile.placement)
    return Request(voice_messages(profile, told, prompt.OPENING_LINE, TAG, rows))


def marks(prompt: str) -> list[str]:
    return MARKS.findall(prompt)


@pytest.fixture(scope="module", params=sorted(FAMILIES & set(TEMPLATES)))
def server(request: pytest.FixtureRequest) -> Iterator[Served]:
    with served(TEMPLATES[request.param]) as one:
        yield one


@pytest.mark.parametrize("request_of", [of_the_agent, of_the_inner_voice])
async def test_whatever_is_said_the_marks_in_the_prompt_are_those_of_plain_words(
    server: Served, request_of: Callable[[Words, Profile], Request]
) -> None:
    finding = await Probe(server.render).find()
    assert finding
    profile = finding.profile
    plain = marks(server.prompt(request_of(lambda: "x", profile)))
    assert plain.count(FRAME[0]) > 5

    chance = random.Random(repr(profile))
    for _ in range(STORIES):
        assert marks(server.prompt(request_of(lambda: hostile(chance), profile))) == plain
