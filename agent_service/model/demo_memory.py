"""Where the demo's story stands, read from the conversation: it has no other memory.

A compaction takes away what came before the agent's last words. What the story needs of it, the summary says
in words that are read back here.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from agent_service.domain import JsonObject
from agent_service.model.protocol import SUMMARY_MARK

MAX_QUOTE_CHARACTERS = 120

_OPENING = re.compile(r"\[((?:operator|user|service|cron|webhook|agent)(?::[^\]\s]+)?)\] ?(.*)")
_FRAME = re.compile(r"<interrupt-(\w+)>\n.*?\n</interrupt-\1>", re.DOTALL)
# What the frame of an interrupt says of itself.
_FRAME_LINE = re.compile(r"<|\[\d+ more wait|\[cut here: ")
_FACT = re.compile(r"[a-z][a-z0-9_-]*(\.[a-z][a-z0-9_-]*)+(?=\s|$)")
_FACT_ONLY_KINDS = ("cron", "webhook")

_HOURS = "The watch so far: hours begun, {turn}; the last of them {stands}."
_CLOSED, _OPEN = "is closed", "stands at step {steps}"
# From an hour on: the agent's last words, which come after the summary, are its answer to the order.
_ORDER = "In force {since} hour {turn}, by word of {source}: {order}."
_SINCE, _FROM = "since", "from"
_REMEMBERED_HOURS = re.compile(
    _HOURS.format(turn=r"(\d+)", stands=f"(?:{_CLOSED}|{_OPEN})").format(steps=r"(\d+)")
)
_REMEMBERED_ORDER = re.compile(
    _ORDER.format(since=f"({_SINCE}|{_FROM})", turn=r"(\d+)", source=r"(\S+)", order="“(.*)”")
)


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
    """Where the story stands: the turn, whether it is over, the steps of its scene that are done, the order
    in force and the turn that heard it, and what is not answered yet."""

    turn: int = 0
    over: bool = False
    steps_done: int = 0
    order: Heard | None = None
    order_turn: int = 0
    heard: tuple[Heard, ...] = ()

    @property
    def new_orders(self) -> tuple[Heard, ...]:
        return tuple(heard for heard in self.heard if heard.is_order)

    def next_turn(self) -> "Situation":
        return replace(self, turn=self.turn + 1, over=False, steps_done=0)

    def speaking(self) -> "Situation":
        """The situation when the agent speaks, which it does in a turn. The line that opened the turn may
        stand in one message with a summary."""
        return self.next_turn() if self.over else self

    def answered(self) -> "Situation":
        """The situation after the agent's words. An order opens a scene of its own."""
        if self.new_orders:
            order = self.new_orders[-1]
            return Situation(self.turn, self.over, order=order, order_turn=self.turn)
        return replace(self, steps_done=self.steps_done + 1, heard=())


def apart(conversation: Sequence[JsonObject]) -> list[JsonObject]:
    """The conversation with every interrupt, and the request for a summary, in a message of its own, wherever
    it was put."""
    return [part for message in conversation for part in _parts(message)]


def _parts(message: JsonObject) -> Iterator[JsonObject]:
    role, text, request = message.get("role"), content(message), ""
    if role not in ("user", "tool"):
        yield message
        return
    if role == "tool":
        text, mark, rest = text.partition(SUMMARY_MARK)
        request = mark + rest
    end = 0
    for frame in _FRAME.finditer(text):
        yield from _said(message, text[end : frame.start()])
        yield {"role": "system", "content": frame[0]}
        end = frame.end()
    yield from _said(message, text[end:])
    if request:
        yield {"role": "user", "content": request}


def _said(message: JsonObject, text: str) -> Iterator[JsonObject]:
    """This part of what a message says, if it is any."""
    if text.strip():
        yield {**message, "content": text.strip()}


def situation(conversation: Sequence[JsonObject], agent: str) -> Situation:
    """Read the conversation, in which the agent has the given role and the inner voice the other."""
    story = Situation()
    for message in conversation:
        role = message.get("role")
        if remembered := _remembered(content(message)):
            story = remembered
        elif role == "system":
            story = replace(story, heard=story.heard + interrupts(content(message)))
        elif role == agent:
            story = story.speaking().answered()
        elif role in ("user", "assistant"):
            story = story.next_turn()
    return story


def content(message: JsonObject) -> str:
    text = message.get("content")
    return text if isinstance(text, str) else ""


def interrupts(framed: str) -> tuple[Heard, ...]:
    """The interrupts in a system message: `[source] text` and the lines after it, without the frame."""
    found: list[Heard] = []
    for line in framed.splitlines():
        if opening := _OPENING.match(line):
            found.append(Heard(opening[1], opening[2]))
        elif found and not _FRAME_LINE.match(line):
            found[-1] = replace(found[-1], text=f"{found[-1].text}\n{line}".rstrip())
    return tuple(found)


def asks_for_summary(conversation: Sequence[JsonObject]) -> bool:
    last = conversation[-1] if conversation else {}
    return last.get("role") == "user" and SUMMARY_MARK in content(last)


def summary(conversation: Sequence[JsonObject]) -> str:
    """The story up to the request, with which the line of a turn may stand in one message."""
    *told, request = conversation
    if line := content(request).rpartition(SUMMARY_MARK)[0]:
        told.append({"role": "user", "content": line})
    story = situation(told, agent="assistant")
    spoken = [content(message) for message in told if message.get("role") == "assistant"]
    if told and told[-1].get("role") == "assistant":
        story = replace(story, over=not told[-1].get("tool_calls"))
    stands = _CLOSED if story.over else _OPEN.format(steps=story.steps_done)
    lines = [_HOURS.format(turn=story.turn, stands=stands)]
    if story.new_orders:
        lines.append(_in_force(_FROM, story.turn, story.new_orders[-1]))
    elif story.order:
        lines.append(_in_force(_SINCE, story.order_turn, story.order))
    last_words = f"The last words in the log: {quoted(spoken[-1])}. " if spoken else ""
    return "\n".join([*lines, f"{last_words}The lamp has not been dark."])


def _in_force(since: str, turn: int, order: Heard) -> str:
    return _ORDER.format(since=since, turn=turn, source=order.source, order=quoted(order.text))


def _remembered(text: str) -> Situation | None:
    """The situation that a summary tells of."""
    hours, order = _REMEMBERED_HOURS.search(text), _REMEMBERED_ORDER.search(text)
    if not hours:
        return None
    story = Situation(turn=int(hours[1]), over=hours[2] is None, steps_done=int(hours[2] or 0))
    if not order:
        return story
    # The answer to an order is no step of its scene.
    steps_done = -1 if order[1] == _FROM else story.steps_done
    return replace(story, steps_done=steps_done, order=Heard(order[3], order[4]), order_turn=int(order[2]))


def quoted(text: str) -> str:
    return f"“{short(text)}”"


def short(text: str) -> str:
    """The text in one line, cut, without its full stop."""
    line = " ".join(text.split()).rstrip(".")
    return line if len(line) <= MAX_QUOTE_CHARACTERS else f"{line[:MAX_QUOTE_CHARACTERS].rstrip()}…"
