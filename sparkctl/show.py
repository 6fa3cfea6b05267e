"""How one session stands: what it does or why it waits, since when, what is pending, and what helps."""

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, tzinfo

from google.protobuf.timestamp_pb2 import Timestamp

from spark.agent.v1.agent_service_pb2 import GetSessionRequest, StreamTranscriptRequest
from spark.agent.v1.event_pb2 import Event
from spark.agent.v1.interrupt_pb2 import Interrupt
from spark.agent.v1.session_pb2 import Activity, Session, SessionState
from sparkctl import hints
from sparkctl.connections import DEADLINE_SECONDS, AgentService
from sparkctl.interrupts import OUTSTANDING, listed
from sparkctl.rows import Row, Tone
from sparkctl.sessions import state
from sparkctl.transcript import Transcript
from sparkctl.words import age, ahead, brief, clock, cut, visible

_NEWEST_EVENTS = 300

_FROM_OUTSIDE = ("interrupt_posted", "interrupt_settled")
_NEW_ATTEMPTS = ("turn_started", "round_started", "turn_ended")
_AT_REST = (Activity.ACTIVITY_BACKING_OFF, Activity.ACTIVITY_QUEUED)


@dataclass(frozen=True, slots=True)
class Standing:
    """A session, its interrupts neither seen nor settled, and its newest events; read in this order."""

    session: Session
    outstanding: Sequence[Interrupt]
    events: Sequence[Event]


async def standing(agent: AgentService, session_id: str) -> Standing:
    session = (await agent.ask(agent.stub.GetSession, GetSessionRequest(session_id=session_id))).session
    outstanding = [interrupt async for interrupt in listed(agent, session_id, OUTSTANDING)]
    return Standing(session, outstanding, await _newest_events(agent, session))


async def _newest_events(agent: AgentService, session: Session) -> list[Event]:
    after_revision = max(0, session.revision - _NEWEST_EVENTS)
    request = StreamTranscriptRequest(session_id=session.session_id, after_revision=after_revision)
    events: list[Event] = []
    stream = agent.listen(agent.stub.StreamTranscript, request, DEADLINE_SECONDS)
    async with aclosing(stream) as responses:
        async for response in responses:
            events += response.events
            if response.synced:
                break
    return events


def rows(standing: Standing, now: datetime, zone: tzinfo | None = None) -> list[Row]:
    session, transcript = standing.session, Transcript(live=True, zone=zone)
    transcript.waiting(standing.outstanding)
    since: list[Row] = []
    failure: list[Row] = []
    for event in standing.events:
        said = transcript.apply(event)
        if event.HasField("round_failed"):
            failure = said
        elif event.WhichOneof("event") in _NEW_ATTEMPTS:
            failure = []
        if event.WhichOneof("event") not in _FROM_OUTSIDE:
            since = [_fact("since", f"{clock(event.create_time, zone)} ({age(event.create_time, now)})")]
    return [
        _fact("session", f"{session.session_id} {brief(session.display_name)}".rstrip()),
        _fact("goal", cut(session.goal)),
        _fact("state", _state(session)),
        *since,
        *(failure if session.activity in _AT_REST else ()),
        *(transcript.idle(now) if session.activity == Activity.ACTIVITY_RUNNING else ()),
        *transcript.in_progress(now),
        *_outlook(standing, now, zone),
    ]


def _state(session: Session) -> str:
    reason = f": {visible(session.state_reason)}" if session.state_reason else ""
    return f"{state(session)}, turn {session.turn}{reason}"


def _outlook(standing: Standing, now: datetime, zone: tzinfo | None) -> list[Row]:
    """Why nothing happens, and what helps; nothing for a session at work, and for one that is over."""
    session = standing.session
    when = _when(session.next_turn_time, now, zone) if session.HasField("next_turn_time") else ""
    post = hints.post(session.session_id, "TEXT")
    match session.activity:
        case Activity.ACTIVITY_IDLE if when:
            return _waits(f"the next turn starts {when}", f"an interrupt starts it now: {post}")
        case Activity.ACTIVITY_IDLE:
            return _waits("the next turn starts with an interrupt", post)
        case Activity.ACTIVITY_WAITING:
            until = f", or {when}" if when else ""
            return _waits(f"the agent goes on at an interrupt{until}", post)
        case Activity.ACTIVITY_BACKING_OFF:
            model = _asked_model(standing)
            helps = f"by itself, once the model {visible(model)} answers; how it stands: {hints.check(model)}"
            return _waits(f"the round is tried again {when}", helps)
        case Activity.ACTIVITY_QUEUED:
            helps = "by itself, once an agent service runs that has room (SPARK_MAX_SESSIONS)"
            return _waits("work is due, and no replica has taken it yet", helps)
        case _ if session.state in (SessionState.SESSION_STATE_PAUSED, SessionState.SESSION_STATE_FAILED):
            return _waits("nothing is run", _way_on(standing))
        case _:
            return []


def _asked_model(standing: Standing) -> str:
    """The one whose request failed last: before the first round that of the inner voice."""
    failed = [event.round_failed for event in standing.events if event.HasField("round_failed")]
    config = standing.session.config
    of_voice = config.inner_voice_model if failed and not failed[-1].round else ""
    return of_voice or config.model


def _way_on(standing: Standing) -> str:
    """How a session that has failed, or was paused by a person or a limit, works on."""
    session, limits = standing.session, standing.session.config
    resume = hints.resume(session.session_id)
    if 0 < limits.max_turns <= session.turn and not _in_turn(standing.events):
        return f"{hints.update(session.session_id, '--max-turns N')}, then {resume}"
    if limits.max_rounds_per_turn or limits.token_budget:
        return f"{resume}, which grants rounds and tokens afresh"
    return resume


def _in_turn(events: Sequence[Event]) -> bool:
    turns = [event for event in events if event.HasField("turn_started") or event.HasField("turn_ended")]
    return bool(turns) and turns[-1].HasField("turn_started")


def _waits(why: str, helps: str) -> list[Row]:
    return [_fact("waits", why), _fact("goes on", helps)]


def _when(time: Timestamp, now: datetime, zone: tzinfo | None) -> str:
    return f"at {clock(time, zone)} (in {ahead(time, now)})"


def _fact(label: str, text: str) -> Row:
    return Row(Tone.QUIET, label, text)
