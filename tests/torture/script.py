"""What the scripted model says, and what befalls it. Pure but for chance."""

import asyncio
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import count
from random import Random

from agent_service.model import INNER_VOICE_MARK, SUMMARY_MARK

CONTEXT_TOKENS = 4000
LONGEST_REPLY_SECONDS = 1.0
LONGEST_STALL_SECONDS = 3.0

_GOAL = re.compile(r"\[goal:([^\]]*)\]")
_BYTES_PER_TOKEN = 4


class Trouble(Enum):
    NONE = "none"
    REFUSED = "a status of an error"
    CUT = "the connection is cut in the middle"
    STALL = "silence in the middle"


@dataclass(frozen=True)
class Call:
    id: str
    name: str
    arguments: str


@dataclass(frozen=True)
class Reply:
    text: str = ""
    reasoning: str = ""
    calls: tuple[Call, ...] = ()
    seconds: float = 0.0
    trouble: Trouble = Trouble.NONE
    # Nothing is said before.
    when: asyncio.Event | None = None
    status: int = 200
    error: str = ""


class Script:
    """Every reply is another one, so that each can be told in a transcript."""

    def __init__(self, chance: Random) -> None:
        self._chance, self._numbers = chance, count(1)
        self._names: list[str] = []
        # Whether errors, cuts and stalls happen, and agents tell each other things.
        self.wild = True

    def reply(self, body: dict) -> Reply:
        if tokens(body) > CONTEXT_TOKENS:
            return overflow()
        seconds = self._chance.choice((0.005, 0.02, 0.1, 0.3, LONGEST_REPLY_SECONDS))
        trouble = self._trouble() if self.wild else Trouble.NONE
        if trouble is Trouble.REFUSED:
            return self._refusal()
        text, calls = self._words(body)
        reasoning = f"I think of {text}" if self._chance.random() < 0.2 else ""
        return Reply(text, reasoning, calls, seconds, trouble)

    def _words(self, body: dict) -> tuple[str, tuple[Call, ...]]:
        name, number = session_name(body), next(self._numbers)
        messages = body["messages"]
        if SUMMARY_MARK in str(messages[-1]):
            return f"Summary {number} of {name}.", ()
        if INNER_VOICE_MARK in str(messages[0]):
            return f"{name}, take step {number}.", ()
        self._names += [name] * (name not in self._names)
        offered = [tool["function"]["name"] for tool in body.get("tools", ())]
        if not self.wild:
            offered = [tool for tool in offered if tool != "tell"]
        if not offered or self._chance.random() < 0.5:
            return f"{name} has done {number}.", ()
        chosen = self._chance.choices(offered, k=self._chance.choice((1, 1, 2, 3)))
        calls = tuple(self._call(tool, f"call_{number}_{n}", name) for n, tool in enumerate(chosen))
        return self._chance.choice(("", f"{name} calls {number}.")), calls

    def _call(self, tool: str, call_id: str, name: str) -> Call:
        match tool:
            case "wait":
                arguments: dict[str, object] = {"seconds": self._chance.choice((0.2, 1, 3600))}
            case "note":
                arguments = {"text": f"{call_id} was here."}
            case "marks_mark":
                arguments = {"session": name, "call_id": call_id}
            case "tell":
                arguments = {"session": self._chance.choice(self._names), "text": f"{name} tells {call_id}."}
            case _:
                arguments = {}
        return Call(call_id, tool, json.dumps(arguments))

    def _trouble(self) -> Trouble:
        return self._chance.choices(tuple(Trouble), (88, 5, 4, 3))[0]

    def _refusal(self) -> Reply:
        status = self._chance.choice((400, 429, 500, 503))
        return overflow() if status == 400 else Reply(status=status, error="The model is tired.")


def overflow() -> Reply:
    """The request is too long."""
    return Reply(status=400, error=f"This model's maximum context length is {CONTEXT_TOKENS} tokens.")


def session_name(body: dict) -> str:
    """By the mark in the goal."""
    mark = _GOAL.search(json.dumps(body["messages"][:1], ensure_ascii=False))
    return mark[1] if mark else ""


def tokens(body: dict) -> int:
    said = json.dumps([body["messages"], body.get("tools")], ensure_ascii=False)
    return len(said.encode(errors="replace")) // _BYTES_PER_TOKEN


def pieces(text: str, count: int = 3) -> Sequence[str]:
    size = len(text) // count + 1
    return [text[start : start + size] for start in range(0, len(text), size)]
