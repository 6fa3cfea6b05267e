"""What the demo says next: a pure function of the conversation, so that it survives every crash.

It plays both parts, the agent and the inner voice, and has its memory in the messages alone.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from agent_service.domain import JsonObject, ToolCall
from agent_service.model.demo_scenes import NEW_ORDER, STANDING_ORDER, WATCH, WEATHER, Scene, Step
from agent_service.model.protocol import INNER_VOICE_MARK, Request

NOW, NOTE = "now", "note"
MAX_QUOTE_CHARACTERS = 120
MAX_TOLD = 6

_OPENING = re.compile(r"\[((?:operator|user|service|cron|webhook|agent)(?::[^\]\s]+)?)\] ?(.*)")
_FACT = re.compile(r"[a-z][a-z0-9_-]*(\.[a-z][a-z0-9_-]*)+(?=\s|$)")
_FACT_ONLY_KINDS = ("cron", "webhook")
_TIME_OF_DAY = re.compile(r"(?<!\d)([01]\d|2[0-3]):[0-5]\d(?!\d)")

_CHANGE = "I change my plan: the usual round waits, this goes into the log, and then I start on it."
_NOTED = "Noted as a fact; the round goes on."


@dataclass(frozen=True, slots=True)
class Speech:
    text: str
    calls: tuple[ToolCall, ...] = ()


@dataclass(frozen=True, slots=True)
class Heard:
    """An interrupt as the conversation shows it: an order, or else a fact."""

    source: str
    text: str

    @property
    def is_order(self) -> bool:
        return self.source.partition(":")[0] not in _FACT_ONLY_KINDS and not _FACT.match(self.text)


@dataclass(frozen=True, slots=True)
class Situation:
    """Where the story stands: the turn, the steps of its scene that are done, the order in force and the
    turn that heard it, and what is not answered yet."""

    turn: int = 0
    steps_done: int = 0
    order: Heard | None = None
    order_turn: int = 0
    heard: tuple[Heard, ...] = ()

    @property
    def new_orders(self) -> tuple[Heard, ...]:
        return tuple(heard for heard in self.heard if heard.is_order)

    def answered(self) -> "Situation":
        """The situation after the agent's next words. An order opens a scene of its own."""
        if self.new_orders:
            return Situation(self.turn, order=self.new_orders[-1], order_turn=self.turn)
        return replace(self, steps_done=self.steps_done + 1, heard=())


def speak(request: Request) -> Speech:
    prompt, conversation = request.messages[0], request.messages[1:]
    if INNER_VOICE_MARK in content(prompt):
        return Speech(_inner_voice(situation(conversation, agent="user")))
    story = situation(conversation, agent="assistant")
    offered = {tool.name for tool in request.tools}
    return _agent(story, _clock(conversation), offered, f"call_{len(conversation)}")


def content(message: JsonObject) -> str:
    text = message.get("content")
    return text if isinstance(text, str) else ""


def situation(conversation: Sequence[JsonObject], agent: str) -> Situation:
    """Read the conversation, in which the agent has the given role and the inner voice the other."""
    story = Situation()
    for message in conversation:
        role = message.get("role")
        if role == "system":
            story = replace(story, heard=story.heard + interrupts(content(message)))
        elif role == agent:
            story = story.answered()
        elif role in ("user", "assistant"):
            story = replace(story, turn=story.turn + 1, steps_done=0)
    return story


def interrupts(framed: str) -> tuple[Heard, ...]:
    """The interrupts in a system message: `[source] text` and the lines after it, without the frame."""
    found: list[Heard] = []
    for line in framed.splitlines():
        if opening := _OPENING.match(line):
            found.append(Heard(opening[1], opening[2]))
        elif found and not line.startswith("<"):
            found[-1] = replace(found[-1], text=f"{found[-1].text}\n{line}".rstrip())
    return tuple(found)


def _inner_voice(story: Situation) -> str:
    hour = WATCH[story.turn % len(WATCH)]
    if story.new_orders:
        return " ".join([f"It is {hour.name}.", *_answers(story.new_orders), "That comes first."])
    if story.order:
        return f"It is {hour.name}. Keep at {_quoted(story.order.text)}, and do not forget the lamp."
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
    order = _quoted(story.order.text)
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
        return f"{who} says: {_quoted(heard.text)}."
    return f"{heard.source} reports {_short(heard.text)}."


def _quoted(text: str) -> str:
    return f"“{_short(text)}”"


def _short(text: str) -> str:
    """The text in one line, cut, without its full stop."""
    line = " ".join(text.split()).rstrip(".")
    return line if len(line) <= MAX_QUOTE_CHARACTERS else f"{line[:MAX_QUOTE_CHARACTERS].rstrip()}…"
