"""What a request of a model shows of the transcript, read off row by row.

Words are compared without white space and quote marks: the form in which an interrupt is framed, and how the
tokens of chat templates are taken apart in it, is the product's affair. That requests say the same again,
byte for byte, is compared elsewhere.
"""

import json
import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence

from tests.torture.checker.evidence import Asker, Session, Shown
from tests.torture.checker.records import Asked, ChatMessage
from tests.torture.checker.rows import MessageRow

# By which the product tells a model what it is asked for.
_INNER_VOICE, _SUMMARY = "You are the inner voice", "Write a summary of the work so far"
_INTERRUPT = "interrupt"

# What kind of thing is said, and the words.
_Unit = tuple[str, str]


def asker(asked: Asked) -> Asker:
    messages = asked.body.messages
    if asked.body.max_tokens == 1:
        return Asker.TRIAL
    if _INNER_VOICE in messages[0].words:
        return Asker.VOICE
    return Asker.SUMMARY if _SUMMARY in messages[-1].words else Asker.AGENT


def shown(session: Session, asked: Asked) -> Shown:
    """Of the summaries that were there, the newest is tried first: whoever has lost the session may still ask
    with an older one."""
    by = asker(asked)
    whole = by is Asker.AGENT and not session.is_told_as_text
    units = _said_in(asked.body.messages, session.row.frame_tag)
    units = units if whole else [unit for unit in units if unit[0] == _INTERRUPT]
    older = bisect_right(session.summaries, asked.began, key=lambda row: row.posted_at)
    wrong = ""
    for summary in [*session.summaries[:older][::-1], None]:
        covers = summary.covers_through_position if summary else 0
        reading = _Reading(units)
        if whole and summary and not reading.takes("user", bare(summary.text)):
            wrong = wrong or f"it does not begin with {summary}"
            continue
        through, stopped_at = _read(session, reading, covers, whole)
        if not stopped_at:
            return Shown(asked, by, covers, through)
        wrong = wrong or stopped_at
    there = [row.place for row in session.transcript if row.appended_at <= asked.began]
    return Shown(asked, by, 0, max(there, default=0), wrong)


def _read(session: Session, reading: "_Reading", covers: int, whole: bool) -> tuple[int, str]:
    """Through which position, and what is wrong if that is not all of the request."""
    through = covers
    for row in session.shown_after(covers):
        if reading.is_done:
            break
        if row.type == "system":
            if not reading.takes_interrupt(row):
                return through, f"it does not show {row}, but {reading.rest}"
            through = max(through, row.place)
        elif whole:
            for kind, words in said_by(row):
                if not reading.takes(kind, words):
                    return through, f"it does not show {row}, but {reading.rest}"
                through = max(through, row.place)
    return through, "" if reading.is_done else f"it goes on after the last row with {reading.rest}"


def said_by(row: MessageRow) -> list[_Unit]:
    """What a row other than an interrupt says to the agent. Nothing, if it has no words."""
    match row.type:
        case "user" | "summary":
            units = [("user", bare(row.text))]
        case "assistant":
            units = [("reasoning", bare(row.reasoning)), ("assistant", bare(row.text))]
        case "tool_call":
            units = [("call", bare(f"{row.call_id} {row.tool_name} {_object(row.text)}"))]
        case "tool_response":
            # One without words is said too.
            units = [("response", bare(f"{row.call_id}: {row.text}"))]
        case kind:
            raise ValueError(kind)
    return [(kind, words) for kind, words in units if words]


def words_of(row: MessageRow) -> str:
    """What an interrupt says, its source first."""
    data = f"data: {row.data_json}" if row.data_json else ""
    told = (f"[{row.source}]", row.notification_type, row.subject, row.text, data)
    return bare(" ".join(part for part in told if part))


def bare(text: str) -> str:
    return re.sub(r"[\s>]+", "", text)


class _Reading:
    """What is left to read of a request."""

    def __init__(self, units: Sequence[_Unit]) -> None:
        self._units = _joined(units)
        self._place = self._offset = 0

    @property
    def is_done(self) -> bool:
        return self._place == len(self._units)

    @property
    def rest(self) -> str:
        if self.is_done:
            return "nothing"
        kind, words = self._units[self._place]
        return f"{kind} {words[self._offset :][:60]!r}"

    def takes(self, wanted: str, words: str) -> bool:
        """Read these words, if they are what comes next."""
        if self.is_done:
            return False
        kind, said = self._units[self._place]
        if kind != wanted or not said.startswith(words, self._offset):
            return False
        self._offset += len(words)
        if self._offset == len(said):
            self._place, self._offset = self._place + 1, 0
        return True

    def takes_interrupt(self, row: MessageRow) -> bool:
        if self.is_done or self._units[self._place][0] != _INTERRUPT:
            return False
        said, words = self._units[self._place][1], words_of(row)
        if row.left_waiting:
            said, _, _ = said.rpartition(f"[{row.left_waiting}more")
        if row.shown_bytes:
            said, _, _ = said.rpartition("[cuthere:")
            words = words[: len(said)]
        if said != words:
            return False
        self._place += 1
        return True


def _joined(units: Sequence[_Unit]) -> list[_Unit]:
    """Neighbours of one kind may have been joined in the request, interrupts never."""
    joined: list[_Unit] = []
    for kind, words in units:
        if joined and joined[-1][0] == kind != _INTERRUPT:
            joined[-1] = kind, joined[-1][1] + words
        else:
            joined.append((kind, words))
    return joined


def _said_in(messages: Sequence[ChatMessage], tag: str) -> list[_Unit]:
    frame = re.compile(rf"<interrupt-{tag}>\n(.*?)\n</interrupt-{tag}>", re.DOTALL)
    return [unit for message in messages[1:] for unit in _said(message, frame) if unit[1]]


def _said(message: ChatMessage, frame: re.Pattern[str]) -> Iterator[_Unit]:
    yield "reasoning", bare(message.reasoning_content or "")
    kind, own = message.role, ""
    if kind == "tool":
        kind, own = "response", bare(f"{message.tool_call_id}:")
    for n, part in enumerate(frame.split(message.words)):
        # Every other part is what stands in a frame.
        yield (_INTERRUPT, bare(part)) if n % 2 else (kind, (own if n == 0 else "") + bare(part))
    for call in message.tool_calls:
        yield "call", bare(f"{call.id} {call.function.name} {_object(call.function.arguments)}")


def _object(arguments: str) -> str:
    """Arguments that are no object are not sent on."""
    try:
        return arguments if isinstance(json.loads(arguments), dict) else "{}"
    except ValueError:
        return "{}"
