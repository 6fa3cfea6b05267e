"""What an agent is at: a reply being written, tools that run, a wait."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import TypeAlias

from google.protobuf.timestamp_pb2 import Timestamp

from spark.agent.v1.event_pb2 import DeltaKind, Speaker, TextDelta
from spark.agent.v1.message_pb2 import ToolCall
from sparkctl.drafts import Draft, Drafts, Place
from sparkctl.rows import Row, Tone
from sparkctl.waits import Wait, wait_of
from sparkctl.words import age, ahead, visible

# Turn, round and call id.
CallKey: TypeAlias = tuple[int, int, str]


@dataclass(slots=True)
class Call:
    """A tool call that has no response yet."""

    call: ToolCall
    wait: Wait | None = None
    started: Timestamp | None = None
    # Its place among the calls of its reply; None for a watcher who came too late to know.
    place: int | None = None
    progress: str = ""


class Progress:
    def __init__(self, zone: tzinfo | None) -> None:
        self._zone = zone
        self._drafts = Drafts()
        self._idle: Callable[[datetime], str] | None = None
        self._calls: dict[CallKey, Call] = {}
        # How many calls the newest round has, by its turn and its number.
        self._called: dict[tuple[int, int], int] = {}

    def asking(self, place: Place, time: Timestamp) -> None:
        """A model is being asked; what earlier requests brought is void."""
        self._drafts.void(place)
        self._idle = lambda now: f"asked the model, no answer yet ({age(time, now)})"

    def over(self, next_place: Place) -> None:
        """The request before this place is done with: what it brought is a row, or void."""
        self._drafts.void(next_place)
        self._idle = None

    def resting(self, next_place: Place, time: Timestamp) -> None:
        self._drafts.void(next_place)
        self._idle = lambda now: f"between two turns ({age(time, now)})"

    def backing_off(self, next_place: Place, retry_time: Timestamp) -> None:
        self._drafts.void(next_place)
        self._idle = lambda now: f"backing off, next attempt in {ahead(retry_time, now)}"

    def streamed(self, delta: TextDelta) -> None:
        if delta.kind != DeltaKind.DELTA_KIND_TOOL_PROGRESS:
            self._drafts.add(delta)
            return
        for (turn, round_, _), call in self._calls.items():
            if (turn, round_, call.place) == (delta.turn, delta.round, delta.offset):
                call.progress = delta.text

    def disconnected(self) -> None:
        """What was being written cannot be followed any more."""
        self._drafts.void((0, 0, 0))

    def called(self, key: CallKey, call: ToolCall, time: Timestamp) -> ToolCall | None:
        """The call, if it starts with being written: nothing is run for a wait."""
        wait, place = wait_of(call), self._called.get(key[:2], 0)
        self._called = {key[:2]: place + 1}
        self._calls[key] = Call(call, wait, time if wait else None, place)
        return call if wait else None

    def started(self, key: CallKey, name: str, time: Timestamp) -> ToolCall | None:
        """The call that starts, as it was written where that is known; None for a wait, which has."""
        started = self._calls.setdefault(key, Call(ToolCall(call_id=key[2], name=name)))
        if started.wait:
            return None
        started.started, started.progress = time, ""
        return started.call

    def answered(self, key: CallKey) -> ToolCall | None:
        """The call, if it got its response without having been started."""
        answered = self._calls.pop(key, None)
        return answered.call if answered and not answered.started else None

    def rows(self, now: datetime) -> list[Row]:
        running = [self._running(call, call.started, now) for call in self._calls.values() if call.started]
        return _draft_rows(self._drafts.draft) + running

    def idle(self, now: datetime) -> list[Row]:
        """Why there are no rows, if there are none."""
        return [Row(Tone.QUIET, "agent", self._idle(now))] if self._idle and not self.rows(now) else []

    def _running(self, call: Call, since: Timestamp, now: datetime) -> Row:
        if call.wait:
            return Row(Tone.TOOL, "waiting", call.wait.told(since, now, self._zone))
        progress = f" · {visible(call.progress)}" if call.progress else ""
        return Row(
            Tone.TOOL, "running", f"{visible(call.call.name)} (running for {age(since, now)}){progress}"
        )


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
