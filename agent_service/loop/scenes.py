"""Small conversations by which a server is asked where it takes interrupts. Pure.

Together they have the positions that interrupts have in sessions. Each row says a word of its own, by which
it is found again in the prompt that the server makes.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import cycle, islice
from uuid import UUID

from agent_service.domain import (
    Content,
    Delivery,
    Fact,
    Interrupt,
    JsonObject,
    Message,
    MessageId,
    MessageType,
    Nudge,
    Placement,
    Profile,
    SessionId,
    Text,
    ToolCall,
    ToolResponse,
)
from agent_service.loop.conversation import agent_messages, words
from agent_service.loop.frame import RENDER_VERSION
from agent_service.loop.placement import placed
from agent_service.loop.prompt import system_prompt
from agent_service.model import Request, ToolSpec

_TAG, _NIL, _THEN = "facade", UUID(int=0), Fact(datetime(2000, 1, 1, tzinfo=UTC), 0)
# No prompt has such words by itself, and none changes where it is quoted.
_WORD = re.compile("Zq[a-j]+qz")
_OF_THE_PROMPT, _OF_THE_TOOL = "Zqaaaqz", "Zqaaabqz"
_GOAL = f"Look at the {_OF_THE_PROMPT}."
_AT: JsonObject = {"type": "string", "description": "What to look at."}
_LOOK = ToolSpec(
    "look",
    f"Looks at the {_OF_THE_TOOL}, or anything else.",
    {"type": "object", "properties": {"at": _AT}, "required": ["at"]},
)


@dataclass(frozen=True, slots=True)
class Scene:
    """A conversation up to a request of the agent, in which some neighbours are new interrupts."""

    where: str
    rows: tuple[Message, ...]
    # The news are the rows from here up to there.
    begin: int
    end: int
    prompt: str

    @property
    def rows_before(self) -> tuple[Message, ...]:
        return self.rows[: self.begin]

    @property
    def rows_after(self) -> tuple[Message, ...]:
        return self.rows[self.end :]

    @property
    def news(self) -> tuple[Message, ...]:
        return self.rows[self.begin : self.end]

    @property
    def has_calls(self) -> bool:
        return any(row.type is MessageType.TOOL_CALL for row in self.rows)

    @property
    def ends_with_tools(self) -> bool:
        """Whether a response is the last thing without the news."""
        return (*self.rows_before, *self.rows_after)[-1].type is MessageType.TOOL_RESPONSE

    @property
    def needed(self) -> list[str]:
        """What every prompt must show, in this order: less is no such conversation."""
        told = (MessageType.USER, MessageType.TOOL_RESPONSE)
        return [_OF_THE_PROMPT, *_words(row for row in self.rows if row.type in told)]

    @property
    def words_before(self) -> list[str]:
        return [_OF_THE_PROMPT, *_words(self.rows_before)]

    @property
    def new_words(self) -> list[str]:
        return _words(self.news)

    @property
    def lead(self) -> str:
        """What the news say before their first word."""
        return words(self.news[0], _TAG).partition(self.new_words[0])[0]

    @property
    def words_after(self) -> list[str]:
        return _words(self.rows_after)

    def ending(self, prompt: str) -> str:
        """What follows the last word of the conversation without the news."""
        return prompt.rpartition([*self.words_before, *self.words_after][-1])[2]

    def shows_tools(self, prompt: str) -> bool:
        return _OF_THE_TOOL in prompt

    def request(self, profile: Profile) -> Request:
        return self._request(profile, self.rows)

    def request_without_news(self, profile: Profile) -> Request:
        return self._request(profile, (*self.rows_before, *self.rows_after))

    def _request(self, profile: Profile, rows: Iterable[Message]) -> Request:
        rows = [placed(row, profile.placement) for row in rows]
        tools = () if profile.placement is Placement.TEXT else (_LOOK,)
        return Request(agent_messages(profile, self.prompt, _TAG, rows), tools)


def _words(rows: Iterable[Message]) -> list[str]:
    return [word for row in rows for word in _WORD.findall(words(row, _TAG))]


class _Teller:
    """Tells a conversation row by row."""

    def __init__(self) -> None:
        self.rows: list[Message] = []
        self._words = self._calls = 0

    def tell(self, step: str) -> None:
        """One step of a script, as below."""
        match step:
            case "interrupt" | "NEWS":
                self._interrupt()
            case "user":
                self._say(MessageType.USER, Text(f"Look at the {self._word()}."))
            case "call":
                self._call(1, "")
            case "calls":
                self._call(2, "")
            case "words+call":
                self._call(1, f"I look at the {self._word()}.")
            case "answer":
                self._say(MessageType.ASSISTANT, Text(f"It was the {self._word()}."), self._thought())
            case _:
                raise AssertionError(step)

    def _interrupt(self) -> None:
        body = Nudge(f"Mind the {self._word()}.")
        posted = Interrupt(
            MessageId(_NIL), SessionId(_NIL), "operator", "", body, Delivery.NEXT_ROUND, "", None, _THEN
        )
        self._say(MessageType.SYSTEM, replace(posted, render_version=RENDER_VERSION))

    def _call(self, count: int, text: str) -> None:
        """A reply with so many calls, and their responses."""
        self._say(MessageType.ASSISTANT, Text(text), self._thought())
        first, self._calls = self._calls, self._calls + count
        # Nine letters and figures: some servers take no other ids.
        ids = [f"call{n:05}" for n in range(first, self._calls)]
        for call_id in ids:
            self._say(MessageType.TOOL_CALL, ToolCall(call_id, _LOOK.name, f'{{"at": "{self._word()}"}}'))
        for call_id in ids:
            self._say(
                MessageType.TOOL_RESPONSE, ToolResponse(call_id, _LOOK.name, f"I see the {self._word()}.")
            )

    def _thought(self) -> str:
        return f"It may be the {self._word()}."

    def _word(self) -> str:
        self._words += 1
        return f"Zq{''.join('abcdefghij'[int(figure)] for figure in str(self._words))}qz"

    def _say(self, kind: MessageType, content: Content, reasoning: str = "") -> None:
        row = Message(MessageId(_NIL), SessionId(_NIL), 0, kind, content, 1, 1, _THEN.time)
        self.rows.append(replace(row, reasoning=reasoning))


def scene(where: str, script: str) -> Scene:
    """The conversation of a script, whose steps are below. NEWS are interrupts too, side by side."""
    teller, begin, end = _Teller(), 0, 0
    for step in script.split():
        if step == "NEWS" and not end:
            begin = len(teller.rows)
        teller.tell(step)
        if step == "NEWS":
            end = len(teller.rows)
    return Scene(where, tuple(teller.rows), begin, end, system_prompt(_GOAL, _TAG))


GOES_ON = scene("with work that goes on after it", "user call NEWS call")
SCENES = (
    scene("after a tool's response", "user call NEWS"),
    scene("after a call with words beside it", "user words+call NEWS"),
    scene("after the responses of two tools", "user calls NEWS"),
    scene("two at once", "user call NEWS NEWS"),
    GOES_ON,
    scene("after work that went on after another", "user call interrupt call NEWS"),
    scene("at the start of a later turn", "user call answer NEWS user"),
    scene("at the start of a later turn, with its work", "user answer NEWS user call"),
    scene("at the start of the first turn", "NEWS user"),
    scene("before the first answer", "user NEWS"),
    scene("before the first answer of a later turn", "user answer user NEWS"),
)


# ---- for counting tokens

# Longer than the shortest prompt that a server remembers, and than what it forgets of one.
_USER_WORDS, _OTHER_WORDS = 1200, 200
_FILLING = "the lamp burns all night while the sea is calm and one ship after another finds its way home"


def _longer(row: Message) -> Message:
    match row.content:
        case Interrupt(body=Nudge(text)) as interrupt:
            return replace(row, content=replace(interrupt, body=Nudge(_filled(text, _OTHER_WORDS))))
        case ToolResponse(content=text) as response:
            return replace(row, content=replace(response, content=_filled(text, _OTHER_WORDS)))
        case Text(text) if row.type is MessageType.USER:
            return replace(row, content=Text(_filled(text, _USER_WORDS)))
        case _:
            return replace(row, reasoning=_filled(row.reasoning, _OTHER_WORDS)) if row.reasoning else row


def _filled(text: str, count: int) -> str:
    return " ".join([text, *islice(cycle(_FILLING.split()), count)])


def _told(quiet: Scene) -> Scene:
    """The scene with the words of its news in what the user says first."""
    first = quiet.rows[0]
    text = "\n\n".join(words(row, _TAG) for row in (first, *quiet.news))
    return replace(quiet, rows=(replace(first, content=Text(text)), *quiet.rows[1:]))


def _silent(row: Message) -> Message:
    """The row, of a response without its words."""
    match row.content:
        case ToolResponse() as response:
            return replace(row, content=replace(response, content=""))
        case _:
            return row


LONG = replace(SCENES[0], rows=tuple(map(_longer, SCENES[0].rows)))
LONG_AND_TOLD = _told(LONG)
LONG_BUT_TERSE = replace(LONG, prompt=_GOAL)
LONG_BUT_SILENT = replace(LONG, rows=tuple(map(_silent, LONG.rows)))
