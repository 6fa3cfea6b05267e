"""What an agent is at: a reply being written, tools that run."""

from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from google.protobuf.timestamp_pb2 import Timestamp

from spark.agent.v1.event_pb2 import Speaker, TextDelta
from spark.agent.v1.message_pb2 import ToolCall
from sparkctl.drafts import Draft, Drafts, Place
from sparkctl.rows import Row, Tone
from sparkctl.words import age, visible

# Turn, round and call id.
CallKey: TypeAlias = tuple[int, int, str]


@dataclass(slots=True)
class Call:
    """A tool call that has no response yet."""

    call: ToolCall
    started: Timestamp | None = None


class Progress:
    def __init__(self) -> None:
        self._drafts = Drafts()
        self._idle: tuple[str, Timestamp] | None = None
        self._calls: dict[CallKey, Call] = {}

    def asking(self, place: Place, time: Timestamp) -> None:
        """A model is being asked; what earlier requests brought is void."""
        self._drafts.void(place)
        self._idle = "asked the model, no answer yet", time

    def over(self, next_place: Place) -> None:
        """The request before this place is done with: what it brought is a row, or void."""
        self._drafts.void(next_place)
        self._idle = None

    def resting(self, next_place: Place, time: Timestamp) -> None:
        self._drafts.void(next_place)
        self._idle = "between two turns", time

    def streamed(self, delta: TextDelta) -> None:
        self._drafts.add(delta)

    def disconnected(self) -> None:
        """What was being written cannot be followed any more."""
        self._drafts.void((0, 0, 0))

    def called(self, key: CallKey, call: ToolCall) -> None:
        self._calls[key] = Call(call)

    def started(self, key: CallKey, name: str, time: Timestamp) -> ToolCall:
        """The call that starts, as it was written where that is known."""
        started = self._calls.setdefault(key, Call(ToolCall(call_id=key[2], name=name)))
        started.started = time
        return started.call

    def answered(self, key: CallKey) -> ToolCall | None:
        """The call, if it got its response without having been started."""
        answered = self._calls.pop(key, None)
        return answered.call if answered and not answered.started else None

    def rows(self, now: datetime) -> list[Row]:
        rows = _draft_rows(self._drafts.draft)
        for running in self._calls.values():
            if running.started:
                text = f"{visible(running.call.name)} (running for {age(running.started, now)})"
                rows.append(Row(Tone.TOOL, "running", text))
        if not rows and self._idle:
            what, since = self._idle
            rows.append(Row(Tone.QUIET, "agent", f"{what} ({age(since, now)})"))
        return rows


def _draft_rows(draft: Draft) -> list[Row]:
    inner = draft.speaker == Speaker.SPEAKER_INNER_VOICE
    rows = []
    if draft.reasoning.text:
        rows.append(Row(Tone.REASONING, "reasoning", visible(draft.reasoning.text)))
    if draft.words.text:
        tone, label = (Tone.INNER_VOICE, "inner voice") if inner else (Tone.AGENT, "agent")
        rows.append(Row(tone, label, visible(draft.words.text)))
    rows += [Row(Tone.TOOL, "calling", f"{visible(name)} …") for _, name in sorted(draft.tools.items())]
    return rows
