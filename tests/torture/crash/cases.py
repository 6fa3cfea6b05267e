"""Every point at which a process dies, and what the end shows of it beside the invariants."""

from dataclasses import dataclass, replace

from tests.torture.crash.ending import Ending
from tests.torture.crash.point import Point, When
from tests.torture.crash.story import (
    MARK,
    Clients,
    Plot,
    interrupt,
    nothing,
    take_one_of_two_back,
    tell_two_things_with_keys,
)


@dataclass(frozen=True)
class Case:
    """Processes that die one after the other, and what the end shows. The schema is up before the first of
    them, unless it is for them to bring it up."""

    deaths: tuple[Point, ...]
    plot: Plot
    ending: Ending
    without_schema: bool


_ASKS, _MARKS, _WAITS = Plot("now"), Plot(MARK), Plot("wait", meanwhile=nothing)
_ENDS = Plot("now", meanwhile=Clients.end, at_last=nothing)
_PAUSES = Plot("now", meanwhile=Clients.pause, at_last=Clients.resume)
_THINKS_LONG, _FORGETS = Plot("now", silent=True), Plot("now", too_long=True)
_KEYS, _CANCELS = Plot("now", tell_two_things_with_keys), Plot("now", take_one_of_two_back)
_INTERRUPTED = Plot("now", interrupt, interrupted=True)
_TELLS = Plot("tell", meanwhile=nothing, at_last=nothing)

# What the end of each plot shows if nobody dies.
_WHOLE = Ending("answered answered", "1.1 2.1", (2, 3), started=1, ran=0, answered="by the tool", seen=4)
_ENDINGS = {
    _ASKS: _WHOLE,
    _MARKS: replace(_WHOLE, ran=1),
    _WAITS: Ending("answered", "1.1 2.1", (1, 2), started=0, ran=0, answered="as woken", seen=2),
    _ENDS: Ending("session_ended", "1.1", (1, 1), started=0, ran=0, answered="", seen=0),
    _PAUSES: replace(_WHOLE, turns="answered", asked=(1, 2), seen=1),
    _THINKS_LONG: _WHOLE,
    _FORGETS: replace(_WHOLE, rounds="1.1 2.1 context_overflow 2.2", asked=(2, 5)),
    _KEYS: _WHOLE,
    _CANCELS: replace(_WHOLE, seen=3),
    _INTERRUPTED: replace(_WHOLE, rounds="1.1 interrupted 1.2 2.1", asked=(2, 4)),
    _TELLS: replace(_WHOLE, turns="answered", asked=(1, 2), seen=1, told=1),
}


def _before(function: str, call: int = 1, since: Point | None = None) -> Point:
    return Point(When.BEFORE, function, call, since)


def _after(function: str, call: int = 1, since: Point | None = None) -> Point:
    return Point(When.AFTER, function, call, since)


def _dies(*deaths: Point, plot: Plot = _ASKS, without_schema: bool = False, **shown: object) -> Case:
    """With what the deaths change of the ending."""
    return Case(deaths, plot, replace(_ENDINGS[plot], **shown), without_schema)


_DEPOSITS = "agent_service.store.deposits"
_SAFE_POINTS = "agent_service.store.safe_points"
_TRANSCRIPT = "agent_service.store.transcript:Transcript"
_SESSIONS = "agent_service.store.sessions"
_KEEPER = "agent_service.loop.lease_keeper"
_RUN_CLAIMED = "agent_service.loop.dispatcher:Dispatcher._run_one"
_REQUEST = "agent_service.loop.asker:Asker._stream"
_TOOL = "agent_service.tools.toolbox:Toolbox.call"

# The first round is begun anew, whether or not its request has come to the model server before.
_AGAIN = {"rounds": "1.1 1.2 2.1"}
_ASKED_AGAIN = _AGAIN | {"asked": (2, 4)}
# Whether the first post is answered before somebody dies is left to chance.
_EARLY = {"known": None}
_THINKING = _before(_REQUEST, 2)

CASES = {
    "nowhere": _dies(),
    "nowhere, with another tool": _dies(plot=_MARKS),
    "nowhere, with a wait": _dies(plot=_WAITS),
    "nowhere, with an end": _dies(plot=_ENDS),
    "nowhere, with a pause": _dies(plot=_PAUSES),
    "nowhere, with a compaction": _dies(plot=_FORGETS),
    "nowhere, with a cancellation": _dies(plot=_CANCELS),
    "nowhere, with an immediate delivery": _dies(plot=_INTERRUPTED),
    "nowhere, with another agent told": _dies(plot=_TELLS),
    # ---- creation and deposit
    "session: created, not acknowledged": _dies(_after(f"{_SESSIONS}:Sessions.create")),
    "deposit alone: not committed": _dies(_before(f"{_DEPOSITS}:Deposits._append")),
    "deposit alone: committed, not acknowledged": _dies(
        _after(f"{_DEPOSITS}:Deposits._append"), known="Begin."
    ),
    "deposits together: not committed": _dies(_before(f"{_DEPOSITS}:Deposits._append", 2), **_ASKED_AGAIN),
    "deposits together: committed, not acknowledged": _dies(
        _after(f"{_DEPOSITS}:Deposits._append", 2), known="Look north. Look south.", **_ASKED_AGAIN
    ),
    "deposits with keys: written, not committed": _dies(
        _after(f"{_DEPOSITS}:_write"), plot=_KEYS, **_ASKED_AGAIN
    ),
    "deposits with keys: committed, not acknowledged": _dies(
        _after(f"{_DEPOSITS}:Deposits._commit_once"),
        plot=_KEYS,
        known="Look north. Look south.",
        **_ASKED_AGAIN,
    ),
    "deposits together: acknowledged, not delivered": _dies(
        _before(f"{_SAFE_POINTS}:SafePoints.begin_round", 2)
    ),
    # ---- lease and claim
    "lease: registered": _dies(_after(f"{_KEEPER}:register"), **_EARLY),
    "lease: not renewed": _dies(
        _before(f"{_KEEPER}:renew", since=_THINKING), plot=_THINKS_LONG, asked=None, **_AGAIN, **_EARLY
    ),
    "lease: renewed": _dies(
        _after(f"{_KEEPER}:renew", since=_THINKING), plot=_THINKS_LONG, asked=None, **_AGAIN, **_EARLY
    ),
    "claim: due, not claimed": _dies(
        _after(f"{_DEPOSITS}:Deposits._append"),
        _before("agent_service.store.leases:Leases.claim_due"),
        known="Begin.",
    ),
    "claim: committed": _dies(_before(_RUN_CLAIMED), **_EARLY),
    "claim: committed, from the dead": _dies(
        _before(f"{_TRANSCRIPT}.see"), _before(_RUN_CLAIMED), **_ASKED_AGAIN
    ),
    # ---- delivery and inner voice
    "delivery at a turn's start: decided, not written": _dies(_before(f"{_SAFE_POINTS}:_write"), **_EARLY),
    "delivery at a turn's start: committed": _dies(_after(f"{_SAFE_POINTS}:SafePoints.begin_turn"), **_EARLY),
    "inner voice: not committed": _dies(_before(f"{_TRANSCRIPT}.append"), asked=(3, 3), **_EARLY),
    "inner voice: committed": _dies(_after(f"{_TRANSCRIPT}.append"), **_EARLY),
    "delivery in a round: decided, not written": _dies(_before(f"{_SAFE_POINTS}:_write", 3)),
    "delivery in a round: committed": _dies(
        _after(f"{_SAFE_POINTS}:SafePoints.begin_round", 2), rounds="1.1 2.1 2.2"
    ),
    # ---- request and reply
    "request: not sent": _dies(_before(_REQUEST, 2), **_AGAIN, **_EARLY),
    "request: first bytes of the reply, not seen": _dies(_before(f"{_TRANSCRIPT}.see"), **_ASKED_AGAIN),
    "see: committed, nothing kept of the reply": _dies(_after(f"{_TRANSCRIPT}.see"), **_ASKED_AGAIN),
    "reply with a call: whole, not committed": _dies(_before(f"{_TRANSCRIPT}.append_reply"), **_ASKED_AGAIN),
    "reply with a call: committed": _dies(_after(f"{_TRANSCRIPT}.append_reply")),
    # ---- tools
    "tool safe to repeat: started, not run": _dies(_after(f"{_TRANSCRIPT}.start_tools"), started=2),
    "tool safe to repeat: done, no response": _dies(_after(_TOOL), started=2),
    "other tool: started, not run": _dies(
        _after(f"{_TRANSCRIPT}.start_tools"), plot=_MARKS, ran=0, answered="as unknown"
    ),
    "other tool: done, no response": _dies(_after(_TOOL), plot=_MARKS, answered="as unknown"),
    "response: committed": _dies(_after(f"{_TRANSCRIPT}.append", 2)),
    "repair: written, not committed": _dies(
        _after(_TOOL), _after(f"{_SAFE_POINTS}:_write"), plot=_MARKS, answered="as unknown"
    ),
    "repair: committed": _dies(
        _after(_TOOL), _after(f"{_SAFE_POINTS}:SafePoints.repair"), plot=_MARKS, answered="as unknown"
    ),
    "tell: not committed": _dies(_before(f"{_DEPOSITS}:Deposits._append", 2), plot=_TELLS, started=2),
    "tell: committed, no response": _dies(_after(f"{_DEPOSITS}:Deposits._append", 2), plot=_TELLS, started=2),
    # ---- immediate delivery and cancellation
    "immediate delivery: request cancelled, not told": _dies(
        _before(f"{_TRANSCRIPT}.fail_request"), plot=_INTERRUPTED, rounds="1.1 1.2 2.1"
    ),
    "immediate delivery: told, not delivered": _dies(
        _after(f"{_TRANSCRIPT}.fail_request"), plot=_INTERRUPTED
    ),
    "cancellation: written, not committed": _dies(
        _after("agent_service.store.interrupts:close"), plot=_CANCELS, seen=None, **_ASKED_AGAIN
    ),
    "cancellation: committed, not acknowledged": _dies(
        _after("agent_service.store.interrupts:Interrupts.cancel"), plot=_CANCELS, **_ASKED_AGAIN
    ),
    # ---- compaction
    "compaction: refused, not summed up": _dies(
        _after(f"{_TRANSCRIPT}.fail_request"),
        plot=_FORGETS,
        rounds="1.1 2.1 context_overflow 2.2 context_overflow 2.3",
        asked=(2, 6),
    ),
    "compaction: summed up, not committed": _dies(
        _before(f"{_TRANSCRIPT}.compact"),
        plot=_FORGETS,
        rounds="1.1 2.1 context_overflow 2.2 context_overflow 2.3",
        asked=(2, 7),
    ),
    "compaction: committed": _dies(_after(f"{_TRANSCRIPT}.compact"), plot=_FORGETS),
    # ---- pause
    "pause: written, not committed": _dies(
        _after(f"{_SESSIONS}:write"), plot=_PAUSES, asked=(1, 3), **_AGAIN
    ),
    "pause: committed, not acknowledged": _dies(
        _after(f"{_SESSIONS}:Sessions.pause"), plot=_PAUSES, asked=(1, 3), **_AGAIN
    ),
    "pause: met at a safe point, not committed": _dies(_before(f"{_SAFE_POINTS}:_write", 3), plot=_PAUSES),
    "pause: given back": _dies(_after(f"{_SAFE_POINTS}:SafePoints.begin_round", 2), plot=_PAUSES),
    # It may be at work again before somebody dies.
    "resumption: committed, not acknowledged": _dies(
        _after(f"{_SESSIONS}:Sessions.resume"), plot=_PAUSES, rounds=None, asked=None
    ),
    # ---- park and end
    "park in a wait: not committed": _dies(_before(f"{_TRANSCRIPT}.park"), plot=_WAITS),
    "park in a wait: committed": _dies(_after(f"{_TRANSCRIPT}.park"), plot=_WAITS),
    "end of a turn: answered, not committed": _dies(
        _before(f"{_TRANSCRIPT}.append_answer"), rounds="1.1 2.1 2.2", asked=(2, 4)
    ),
    "end of a turn: committed, idle": _dies(_after(f"{_TRANSCRIPT}.append_answer")),
    "end of a session: written, not committed": _dies(
        _after(f"{_SESSIONS}:write"), plot=_ENDS, rounds=None, asked=None
    ),
    "end of a session: committed, not acknowledged": _dies(_after(f"{_SESSIONS}:Sessions.end"), plot=_ENDS),
    # ---- schema
    "schema: in the middle of a migration": _dies(
        _after("alembic.ddl.impl:DefaultImpl.add_column", 3), without_schema=True
    ),
    "schema: between two migrations": _dies(
        _after("alembic.runtime.migration:HeadMaintainer.update_to_step", 2), without_schema=True
    ),
    "schema: brought up, not committed": _dies(
        _after("agent_service.store.schema:bring_up"), without_schema=True
    ),
    "schema: committed": _dies(_after("agent_service.service:migrate"), without_schema=True),
    # ---- gateway
    "gateway: not forwarded": _dies(_before("gateway.deposits:Deposits._ask")),
    "gateway: answered by the agent service, not acknowledged": _dies(
        _after("gateway.servicer:GatewayServicer._post_all"), known="Begin."
    ),
}
