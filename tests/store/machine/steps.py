"""What may happen next, by what the model says. What is in a list more than once happens more often."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TypeAlias

from hypothesis import strategies as st

from agent_service.domain import RoundFailure
from tests.store.machine.holding import FailRequest, FailRound, Look, Park, Release, See, SetAside, StartTools
from tests.store.machine.model import Config, Key, Model, Post, Session, Stage
from tests.store.machine.outside import Cancel, Create, Deposits, End, PassTime, Pause, Resume, Sweep, Update
from tests.store.machine.replicas import Claim, GiveBack, Register, Renew, SignOff, Way
from tests.store.machine.turns import Answer, Compact, EnterSafePoint, Reply, Respond, Speak, covered
from tests.store.machine.world import Op

Ops: TypeAlias = Sequence[Op]

SOURCES = ("operator", "service:a")
MODES = ("next_round", "next_turn", "immediate")
KEYS = ("", "", "key")
GOALS = ("Keep the lamp.", "Watch the sea.")
MAX_SESSIONS, MAX_REPLICAS = 3, 3
GROWN_REVISION = 12

# A mode and a cooldown; limits on rounds, turns and tokens.
MODES_OF_SESSIONS = (*[(True, 0)] * 4, (True, 1), (False, 0))
LIMITS = (*[(0, 0, 0)] * 12, (1, 0, 0), (2, 0, 0), (0, 1, 0), (0, 0, 40))
CONFIGS = [Config(*mode, *limits) for mode, limits in product(MODES_OF_SESSIONS, LIMITS)]


def sessions(model: Model) -> list[str]:
    return [session.name for session in model.live]


def grown(model: Model) -> list[str]:
    """Sessions to which enough has happened."""
    return [session.name for session in model.live if session.revision >= GROWN_REVISION]


def at_work(model: Model) -> list[str]:
    """Sessions at which workers are, or believe that they are."""
    return sorted({hand.session for hand in model.hands.values()})


def newest(model: Model) -> list[str]:
    """The newest, which may have gone by now."""
    return list(model.replicas)[-MAX_REPLICAS - 1 :]


def new_replica(model: Model) -> str:
    return f"r{len(model.replicas)}"


def holders(model: Model) -> list[str]:
    """Those living who would leave a session behind."""
    return [name for name in model.living if any(s.owner == name for s in model.live)]


def hands(
    model: Model, *stages: Stage, who: Callable[[Session], object] = lambda view: True
) -> Iterator[Key]:
    """Workers at one of the stages, who see such a session."""
    for key, hand in model.hands.items():
        if hand.stage in stages and who(hand.view) and not model.sessions[hand.session].retired:
            yield key


# ---- from outside


@dataclass(frozen=True)
class Wish:
    """A post, before it is known to which session: a new one, or one like another before it, with other words
    or the same."""

    # None: to one that is not there.
    session: int | None
    source: str
    delivery: str
    key: str
    hours: int | None = None
    like: int | None = None
    text: str = "Look north."

    def post(self, model: Model, number: int) -> Post:
        if self.session is None:
            return Post("nobody", self.source, "", self.text)
        session = model.live[self.session % len(model.live)]
        known = [m.post for m in session.messages.values() if m.post]
        if self.like is not None and known:
            return replace(known[self.like % len(known)], text=self.text)
        expires = None if self.hours is None else model.clock + self.hours
        request_id = f"{session.revision}.{number}"
        return Post(session.name, self.source, request_id, self.text, self.delivery, self.key, expires)


WISHES = st.builds(
    Wish,
    st.sampled_from([None, *range(8)]),
    st.sampled_from(SOURCES),
    st.sampled_from(MODES),
    st.sampled_from(KEYS),
    st.sampled_from([None, None, None, None, 1, 2, 0]),
    st.none() | st.none() | st.integers(0, 5),
    st.sampled_from(["Look north.", "Look north.", "Look south."]),
)


def creations(model: Model) -> Ops:
    if sum(session.state != "ended" for session in model.live) == MAX_SESSIONS:
        return []
    return [Create(f"s{len(model.sessions)}", config) for config in CONFIGS]


def deposits(model: Model) -> Ops:
    """Of one new post, or of one that is known."""
    if not model.live:
        return []
    new = [Wish(0, *how).post(model, n) for n, how in enumerate(product(SOURCES, MODES, KEYS))]
    known = [m.post for session in model.live for m in session.messages.values() if m.post]
    return [Deposits(door, (post,)) for door, post in product((0, 1), new + known)]


def withdrawals(model: Model) -> Ops:
    posted = [m.post for session in model.live for m in session.messages.values() if m.post]
    return [*(Cancel(post.session, post.name) for post in posted), *[Sweep()] * len(posted)]


def changes(model: Model) -> Ops:
    return [Update(*change) for change in product(sessions(model), GOALS, CONFIGS)]


def resumptions(model: Model) -> list[Op]:
    return [Resume(session.name) for session in model.live if session.state in ("paused", "failed")]


def stops(model: Model) -> Ops:
    """Mostly what makes a difference, and seldom for good."""
    active = [Pause(session.name) for session in model.live if session.state == "active"]
    any_of_them = [kind(name) for kind, name in product((Pause, Resume), sessions(model))]
    return [*active, *resumptions(model) * 6, *any_of_them, *map(End, grown(model))]


def passing_time(model: Model) -> Ops:
    return [PassTime(1), PassTime(2)]


# ---- replicas


def leases(model: Model) -> Ops:
    kept = [kind(name) for kind, name in product((Renew, Renew, SignOff, GiveBack), newest(model))]
    name = new_replica(model)
    new = [Register(name), Register(name), Register(name, takes=False)]
    return kept + (new if len(model.living) < MAX_REPLICAS else [])


def claims(model: Model) -> Ops:
    after_lapse = [Claim(new, Way.OWN, old) for new, old in product(model.living, newest(model))]
    known = [own_claim(model, name) for name in model.living]
    return [Claim(name, way) for name, way in product(newest(model), Way)] + after_lapse + known


def own_claim(model: Model, replica: str) -> Claim:
    """Of what has come to the replica without its doing."""
    held = [session for session in model.sessions.values() if session.owner == replica]
    running = [(s.name, s.epoch) for s in held if (s.name, s.epoch) in model.hands]
    return Claim(replica, Way.OWN, running=tuple(running))


# ---- workers


def takings(model: Model) -> Ops:
    """Claims that find something; where nobody lives who could, somebody comes."""
    if not model.living:
        return [Register(new_replica(model))]
    own = [claim for name in model.living if (claim := own_claim(model, name)).candidates(model)]
    found = [Claim(name, way) for name, way in product(model.living, Way) if way is not Way.OWN]
    return own + [claim for claim in found if claim.candidates(model)]


def safe_points(model: Model) -> Ops:
    """Mostly all are admitted."""
    stages = Stage.BEGIN_TURN, Stage.BEGIN_VOICE_AGAIN, Stage.REPAIR, Stage.BEGIN_ROUND
    return [EnterSafePoint(key, most) for key, most in product(hands(model, *stages), (9, 9, 9, 2, 1, 0))]


# Seldom.
TWICE = (False, False, False, False, True)


def words(model: Model) -> Ops:
    spoken = [Speak(key, twice) for key, twice in product(hands(model, Stage.SPEAK), TWICE)]
    return [*spoken, *(See(key, most) for key, most in product(hands(model, Stage.ASKED), (9, 9, 9, 1)))]


def replies(model: Model) -> Ops:
    asked = list(hands(model, Stage.REPLY))
    calls = (("a",), ("w",), ("w", "a"), ("a", "b"))
    with_calls = [Reply(*reply) for reply in product(asked, calls, (False, True), TWICE)]
    answers = [Answer(key, twice) for key, twice in product(asked, TWICE) for _ in range(4)]
    return with_calls + answers


def tool_runs(model: Model) -> Ops:
    def runs(view: Session) -> bool:
        return any(m.deadline is None for m in view.open_calls)

    busy = list(hands(model, Stage.TOOLS, who=runs))
    done = [Respond(*respond) for respond in product(busy, (1, 2), TWICE)]
    return done + [StartTools(key) for key in busy for _ in TWICE]


def parkings(model: Model) -> Ops:
    def waits(view: Session) -> bool:
        return view.wait is not None and view.open_calls == [view.wait]

    return [Park(key) for key in hands(model, Stage.TOOLS, who=waits)]


def failures(model: Model) -> Ops:
    asking = list(hands(model, Stage.SPEAK, Stage.ASKED, Stage.REPLY))
    reasons = (RoundFailure.INTERRUPTED, RoundFailure.CONTEXT_OVERFLOW)
    overcome = [FailRequest(key, reason) for key, reason in product(asking, reasons)]
    return overcome + [FailRound(key, hours) for key, hours in product(asking, (1, 2))]


def compactions(model: Model) -> Ops:
    def has_room(view: Session) -> bool:
        return covered(view) > max((m.covers for m in view.transcript), default=0)

    quiet = hands(model, Stage.BEGIN_ROUND, Stage.SPEAK, who=has_room)
    return [Compact(key, twice) for key, twice in product(quiet, TWICE)]


def releases(model: Model) -> Ops:
    loaded = list(hands(model, *(stage for stage in Stage if stage is not Stage.LOAD)))
    handed = [Release(key, taker) for key, taker in product(loaded, (None, *newest(model)))]
    return handed + [SetAside(key, hours) for key, hours in product(loaded, (1, 2))]


def looks(model: Model) -> Ops:
    return [Look(key) for key in hands(model, Stage.SPEAK, Stage.ASKED, Stage.REPLY, Stage.TOOLS)]


# ---- all together


GOES_ON = (takings, safe_points, words, replies, tool_runs, parkings)
WORK = (*GOES_ON * 8, compactions, compactions, failures, releases, looks)
OUTSIDE = (deposits, deposits, deposits, withdrawals, changes, stops, claims)


def kinds(model: Model, *found: Callable[[Model], Ops]) -> list[Ops]:
    """Those of which some is possible."""
    return [ops for of in found if (ops := of(model))]


def work(model: Model) -> list[Ops]:
    """What replicas have to do; where that is nothing, what gives them something."""
    return kinds(model, *WORK) or kinds(model, resumptions, deposits, creations, passing_time)


# What a number, or chance, makes of the kinds: first one of them, then one of it.


def picked(kinds: Sequence[Ops], choice: int) -> Op:
    rest, kind = divmod(choice, len(kinds))
    return kinds[kind][rest % len(kinds[kind])]


def drawn(kinds: Sequence[Ops]) -> st.SearchStrategy[Op]:
    return st.sampled_from(kinds).flatmap(st.sampled_from)


def clients(model: Model) -> st.SearchStrategy[Op]:
    return drawn(kinds(model, creations, withdrawals, withdrawals, changes, stops, stops))


def replicas(model: Model) -> st.SearchStrategy[Op]:
    return drawn(kinds(model, leases, claims, passing_time))


@dataclass(frozen=True)
class Meeting:
    """Of a worker with somebody else, before it is known at which session."""

    session: int
    worker: int
    other: int
    worker_first: bool

    def ops(self, model: Model, names: Sequence[str]) -> tuple[str, Op, Op] | None:
        """None where the two cannot meet."""
        name = names[self.session % len(names)]
        alone = model.only(name)
        worker = picked(kinds(alone, *WORK, claims), self.worker)
        other = picked(kinds(alone, *OUTSIDE, *GOES_ON), self.other)
        if not _may_meet(model, worker, other):
            return None
        return (name, worker, other) if self.worker_first else (name, other, worker)


MEETINGS = st.builds(
    Meeting, st.integers(0, 7), st.integers(0, 10_000), st.integers(0, 10_000), st.booleans()
)


def _may_meet(model: Model, first: Op, second: Op) -> bool:
    """A worker does one thing at a time, and a replica commits its deposits one after the other. Of two
    claims each would take some of what is there, not the same each time."""
    match first, second:
        case Claim(), Claim():
            return len(model.live) == 1
        case Deposits(), Deposits():
            return first.door != second.door
        case _:
            key = getattr(first, "key", None)
            return key is None or key != getattr(second, "key", None)
