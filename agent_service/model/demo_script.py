"""What the demo says next: a pure function of the conversation, so that it survives every crash.

It plays both parts, the agent and the inner voice, and has its memory in the messages alone.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from agent_service.domain import JsonObject, ToolCall
from agent_service.model.demo_memory import (
    Heard,
    Situation,
    apart,
    asks_for_summary,
    content,
    quoted,
    short,
    situation,
    summary,
)
from agent_service.model.demo_scenes import NEW_ORDER, STANDING_ORDER, WATCH, WEATHER, Scene, Step
from agent_service.model.protocol import INNER_VOICE_MARK, Request

NOW, NOTE = "now", "note"
MAX_TOLD = 6

_TIME_OF_DAY = re.compile(r"(?<!\d)([01]\d|2[0-3]):[0-5]\d(?!\d)")

_CHANGE = "I change my plan: the usual round waits, this goes into the log, and then I start on it."
_NOTED = "Noted as a fact; the round goes on."


@dataclass(frozen=True, slots=True)
class Speech:
    text: str
    calls: tuple[ToolCall, ...] = ()


def speak(request: Request) -> Speech:
    prompt, conversation = request.messages[0], apart(request.messages[1:])
    if INNER_VOICE_MARK in content(prompt):
        return Speech(_inner_voice(situation(conversation, agent="user")))
    if asks_for_summary(conversation):
        return Speech(summary(conversation))
    story = situation(conversation, agent="assistant").speaking()
    offered = {tool.name for tool in request.tools}
    # The turn tells it from the calls before a summary.
    return _agent(story, _clock(conversation), offered, f"call_{story.turn}_{len(conversation)}")


def _inner_voice(story: Situation) -> str:
    hour = WATCH[story.turn % len(WATCH)]
    if story.new_orders:
        return " ".join([f"It is {hour.name}.", *_answers(story.new_orders), "That comes first."])
    if story.order:
        return f"It is {hour.name}. Keep at {quoted(story.order.text)}, and do not forget the lamp."
    return f"It is {hour.name}. {hour.voice}"


def _agent(story: Situation, clock: str, offered: set[str], call_id: str) -> Speech:
    said = _answers(story.heard)
    if story.new_orders:
        said.append(_CHANGE)
        scene = _scene(story.answered())
        step: Step | None = Step("", note="; ".join(f"{one.source}: {one.text}" for one in story.new_orders))
    else:
        if story.heard:
            said.append(_NOTED)
        if clock:
            said.append(f"The chronometer says {clock} in Greenwich.")
        scene = _scene(story)
        step = next(iter(scene.steps[story.steps_done :]), None)
    calls = _calls(step, offered, call_id)
    said.append(step.text if step and calls else scene.answer)
    return Speech(" ".join(filter(None, said)), calls)


def _answers(heard: tuple[Heard, ...]) -> list[str]:
    told = [_told(one) for one in heard[:MAX_TOLD]]
    return told if len(heard) <= MAX_TOLD else [*told, f"And {len(heard) - MAX_TOLD} more, all of them read."]


def _scene(story: Situation) -> Scene:
    """The scene of this turn; with an order, the order's."""
    index = max(story.turn - 1, 0)
    if not story.order:
        scene = WATCH[index % len(WATCH)].scene
        look = replace(scene.steps[0], text=f"{WEATHER[index % len(WEATHER)]} {scene.steps[0].text}")
        return replace(scene, steps=(look, *scene.steps[1:]))
    age = story.turn - story.order_turn
    scene = STANDING_ORDER[(age - 1) % len(STANDING_ORDER)] if age else NEW_ORDER
    order = quoted(story.order.text)
    return Scene(
        tuple(Step(step.text.format(order=order), step.note.format(order=order)) for step in scene.steps),
        scene.answer.format(order=order),
    )


def _calls(step: Step | None, offered: set[str], call_id: str) -> tuple[ToolCall, ...]:
    """The step's call, if its tool is offered."""
    if not step:
        return ()
    name, arguments = (NOTE, {"text": step.note}) if step.note else (NOW, {"tz": "UTC"})
    if name not in offered:
        return ()
    return (ToolCall(call_id, name, json.dumps(arguments, ensure_ascii=False)),)


def _clock(conversation: Sequence[JsonObject]) -> str:
    """The time of day in the newest message, if that answers a call of the clock."""
    asked: set[str] = set()
    for message in conversation:
        match message:
            case {"role": "assistant", "tool_calls": [{"id": str(call_id), "function": {"name": "now"}}]}:
                asked.add(call_id)
    match conversation[-1:]:
        case [{"role": "tool", "tool_call_id": str(call_id), "content": str(said)}] if call_id in asked:
            time_of_day = _TIME_OF_DAY.search(said)
            return time_of_day[0] if time_of_day else ""
    return ""


def _told(heard: Heard) -> str:
    if heard.is_order:
        who = "The operator" if heard.source == "operator" else heard.source
        return f"{who} says: {quoted(heard.text)}."
    return f"{heard.source} reports {short(heard.text)}."
