"""A session as a person watches it: events go in, rows come out. No terminal, no clock, no I/O."""

from collections.abc import Iterable
from datetime import datetime, tzinfo
from typing import assert_never

from google.protobuf.timestamp_pb2 import Timestamp

from spark.agent.v1.event_pb2 import (
    Compacted,
    Event,
    RoundFailed,
    RoundFailure,
    RoundStarted,
    ToolCallStarted,
    TurnEnd,
    TurnEnded,
    TurnStarted,
)
from spark.agent.v1.interrupt_pb2 import Interrupt
from spark.agent.v1.message_pb2 import Message, MessageType, ToolCall
from spark.agent.v1.session_pb2 import Session, SessionState
from sparkctl import changes
from sparkctl.drafts import NEVER
from sparkctl.messages import call_row, reasoning_rows, rows
from sparkctl.outstanding import Outstanding
from sparkctl.progress import Progress
from sparkctl.rows import Row, Tone
from sparkctl.words import brief, clock, cut, visible, word

_STOPPED = (SessionState.SESSION_STATE_PAUSED, SessionState.SESSION_STATE_FAILED)


class Transcript:
    """Follows one session. `live` says that the foot is shown: what stands there is not printed as well."""

    def __init__(self, live: bool, zone: tzinfo | None = None) -> None:
        self._live, self._zone = live, zone
        self._session: Session | None = None
        self._progress = Progress(zone)
        self._outstanding = Outstanding(zone)
        self._lost: datetime | None = None

    def apply(self, event: Event) -> list[Row]:
        """Take in an event and return what to print of it."""
        match kind := event.WhichOneof("event"):
            case "session_changed":
                return [self._session_changed(event.session_changed.session, event.revision)]
            case "turn_started":
                return [self._turn_started(event.turn_started, event.create_time)]
            case "round_started":
                return [self._round_started(event.round_started, event.create_time)]
            case "message_appended":
                return self._message_appended(event.message_appended.message, event.create_time)
            case "tool_call_started":
                return self._tool_call_started(event.tool_call_started, event.create_time)
            case "interrupt_posted":
                row = self._outstanding.posted(event.interrupt_posted.interrupt)
                return [] if self._live else [row]
            case "interrupt_delivered":
                return [self._outstanding.delivered(event.interrupt_delivered.interrupt)]
            case "interrupt_seen":
                return [self._outstanding.seen(event.interrupt_seen.interrupt)]
            case "interrupt_settled":
                return [self._outstanding.settled(event.interrupt_settled.interrupt)]
            case "round_failed":
                return [self._round_failed(event.round_failed)]
            case "compacted":
                return [_compacted(event.compacted)]
            case "turn_ended":
                return [self._turn_ended(event.turn_ended, event.create_time)]
            case "text_delta":
                self._progress.streamed(event.text_delta)
                return []
            case None:
                return []
            case _:
                assert_never(kind)

    def waiting(self, interrupts: Iterable[Interrupt]) -> list[Row]:
        """Take in what waits from before the first event."""
        waiting = [self._outstanding.waiting(interrupt) for interrupt in interrupts]
        return [] if self._live else waiting

    def disconnected(self, since: datetime) -> list[Row]:
        self._lost = since
        self._progress.disconnected()
        return [] if self._live else [self._lost_row(since)]

    def connected(self) -> list[Row]:
        self._lost = None
        return [] if self._live else [Row(Tone.QUIET, "connection", "connected again")]

    def foot(self, now: datetime) -> list[Row]:
        """How things stand, for a watcher who must never be in the dark."""
        stopped = [_state_row(self._session)] if self._session and self._session.state in _STOPPED else []
        idle = [] if stopped else self.idle(now)
        lost = [self._lost_row(self._lost)] if self._lost else []
        return [*idle, *self.in_progress(now), *stopped, *lost]

    def in_progress(self, now: datetime) -> list[Row]:
        """A reply being written, tools that run, a wait; interrupts on their way."""
        return [*self._progress.rows(now), *self._outstanding.rows(now)]

    def idle(self, now: datetime) -> list[Row]:
        """Why the agent does nothing of its own, if it does nothing."""
        return self._progress.idle(now)

    def _session_changed(self, session: Session, revision: int) -> Row:
        before, self._session = self._session, session
        if revision == 1:
            name = f"{brief(session.display_name)}: " if session.display_name else ""
            return Row(Tone.QUIET, "session", name + cut(session.goal))
        if before and before.state == session.state:
            return _changed_row(before, session)
        if session.state == SessionState.SESSION_STATE_ENDED:
            self._progress.over(NEVER)
        return _state_row(session)

    def _turn_started(self, started: TurnStarted, time: Timestamp) -> Row:
        self._progress.asking((started.turn, 0, 0), time)
        return Row(Tone.RULE, "", f"turn {started.turn} · {clock(time, self._zone)}")

    def _round_started(self, started: RoundStarted, time: Timestamp) -> Row:
        self._progress.asking((started.turn, started.round, started.attempt), time)
        attempt = f"attempt {started.attempt}" if started.attempt > 1 else ""
        return Row(Tone.QUIET, f"round {started.round}", attempt)

    def _round_failed(self, failed: RoundFailed) -> Row:
        next_place = failed.turn, failed.round, failed.attempt + 1
        if failed.HasField("retry_time"):
            self._progress.backing_off(next_place, failed.retry_time)
        else:
            self._progress.over(next_place)
        who = f"round {failed.round}" if failed.round else "the inner voice"
        if failed.reason == RoundFailure.ROUND_FAILURE_INTERRUPTED:
            return Row(Tone.QUIET, "interrupted", f"{who} was cut short and is asked again")
        text = f"{who}, attempt {failed.attempt}: {word(RoundFailure.DESCRIPTOR, failed.reason)}"
        if failed.detail:
            text += f": {cut(failed.detail)}"
        if failed.HasField("retry_time"):
            text += f" (next attempt at {clock(failed.retry_time, self._zone)})"
        return Row(Tone.PROBLEM, "failed", text)

    def _turn_ended(self, ended: TurnEnded, time: Timestamp) -> Row:
        self._progress.resting((ended.turn + 1, 0, 0), time)
        by_end = ended.reason == TurnEnd.TURN_END_SESSION_ENDED
        return Row(Tone.QUIET, f"turn {ended.turn}", "ended with the session" if by_end else "ended")

    def _tool_call_started(self, started: ToolCallStarted, time: Timestamp) -> list[Row]:
        key = (started.turn, started.round, started.call_id)
        return _call_rows(self._progress.started(key, started.name, time))

    def _message_appended(self, message: Message, time: Timestamp) -> list[Row]:
        self._progress.over((message.turn, message.round + 1, 0))
        match message.type:
            case MessageType.MESSAGE_TYPE_TOOL_CALL:
                # Printed when it starts.
                key = _key(message, message.tool_call.call_id)
                started = self._progress.called(key, message.tool_call, time)
                return reasoning_rows(message, cut) + _call_rows(started)
            case MessageType.MESSAGE_TYPE_TOOL_RESPONSE:
                never_started = self._progress.answered(_key(message, message.tool_response.call_id))
                return _call_rows(never_started) + rows(message, cut)
            case _:
                return rows(message, cut)

    def _lost_row(self, since: datetime) -> Row:
        return Row(Tone.PROBLEM, "connection", f"disconnected since {clock(since, self._zone)}, trying again")


def _key(message: Message, call_id: str) -> tuple[int, int, str]:
    return message.turn, message.round, call_id


def _call_rows(call: ToolCall | None) -> list[Row]:
    return [call_row(call, cut)] if call else []


def _state_row(session: Session) -> Row:
    reason = f": {visible(session.state_reason)}" if session.state_reason else ""
    tone = Tone.PROBLEM if session.state == SessionState.SESSION_STATE_FAILED else Tone.QUIET
    return Row(tone, "session", word(SessionState.DESCRIPTOR, session.state) + reason)


def _changed_row(before: Session, after: Session) -> Row:
    changed = changes.between(before, after)
    goal = f"\n{cut(after.goal)}" if "goal" in changed else ""
    return Row(Tone.QUIET, "session", f"changed: {changes.named(changed)}{goal}")


def _compacted(compacted: Compacted) -> Row:
    how = "are cut off, without a summary" if compacted.cut else "are replaced by a summary"
    count = compacted.handled_interrupts
    handled = f"; interrupts listed as handled: {count}" if count else ""
    rows = f"rows up to position {compacted.summary.covers_through_position} {how}{handled}"
    return Row(Tone.QUIET, "compacted", f"{rows}\n{cut(compacted.summary.text)}".rstrip())
