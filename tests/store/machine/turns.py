"""What a worker does with the session that it has taken, or believes that it has.

It knows only what it knew when it last wrote: one whose lease was lost meanwhile goes on in good faith.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from agent_service.domain import (
    Interrupt,
    MessageType,
    NewMessage,
    Place,
    Placement,
    Portion,
    SessionConfig,
    Terms,
    Usage,
)
from agent_service.errors import LeaseLost
from agent_service.store.held import Admission
from agent_service.store.safe_points import SafePoint, Wait
from agent_service.store.transcript import Compaction
from tests.store.machine.model import (
    ALL_MODES,
    INPUT_TOKENS,
    NEXT_ROUND_MODES,
    OUTPUT_TOKENS,
    Hand,
    Key,
    Message,
    Model,
    Session,
    Stage,
)
from tests.store.machine.world import HOUR, World
from tests.support import assistant, call, response, summary, terms, user

USAGE = Usage(INPUT_TOKENS, 0, OUTPUT_TOKENS, 1)
WAIT_HOURS = 2
TERMS = Terms("", SessionConfig("demo"), "You are an agent.", "[]", (), Placement.SYSTEM)


def place(hand: Hand) -> Place:
    return Place(hand.view.turn, hand.view.round, hand.view.attempt)


def call_id(name: str) -> str:
    """The same in every round, as with some models."""
    return name.split()[-1]


@dataclass(frozen=True)
class Load:
    """Told is where the turn stands, and the rows that requests are built from."""

    key: Key

    async def perform(self, world: World) -> object:
        found = await world.store.load(world.lease(self.key))
        world.loaded[self.key] = found.standing, world.model.clock
        rows = [(row.position, row.type.value) for row in found.rows]
        goal, stands = found.terms.goal if found.terms else None, found.standing
        return found.turn_open, stands.place, stands.interrupted, stands.next_position, goal, rows

    def predict(self, model: Model, told: object) -> object:
        hand, session = model.writer(self.key)
        model.goes_on(hand, _takes_up(session))
        rows = [(m.position, m.type) for m in session.shown]
        position = session.next_position
        return session.turn_open, place(hand), session.interrupted, position, session.turn_goal, rows


def _takes_up(session: Session) -> Stage:
    if not session.turn_open:
        return Stage.BEGIN_TURN
    if session.open_calls:
        return Stage.REPAIR
    return Stage.BEGIN_ROUND if session.voice_has_spoken else Stage.BEGIN_VOICE_AGAIN


@dataclass(frozen=True)
class EnterSafePoint:
    """Delivers what is due, as many as are admitted. Told are the rows, or nothing if it was released."""

    key: Key
    admit: int

    async def perform(self, world: World) -> object:
        hand, lease = world.model.hands[self.key], world.lease(self.key)
        points, position, view = world.store.safe_points, hand.view.next_position, hand.view

        def admit(due: Sequence[Interrupt]) -> Portion:
            return Portion(min(self.admit, len(due)))

        match hand.stage:
            case Stage.BEGIN_TURN:
                point = await points.begin_turn(lease, world.standing(self.key), terms, admit)
            case Stage.BEGIN_VOICE_AGAIN:
                point = await points.begin_voice_again(lease, position, admit)
            case Stage.BEGIN_ROUND:
                point = await points.begin_round(lease, position, view.next_round, admit)
            case _:
                point = await self._repair(world, hand, admit)
        return _told(point)

    async def _repair(self, world: World, hand: Hand, admit: Admission) -> SafePoint | None:
        lost = [response(call_id(m.name)) for m in hand.view.open_calls if m.deadline is None]
        waits = hand.view.wait
        wait = None
        if waits and waits.deadline is not None:
            deadline = world.at(waits.deadline)
            wait = Wait(deadline, response("w", "Woken."), response("w", "Over."))
        points, position = world.store.safe_points, hand.view.next_position
        return await points.repair(world.lease(self.key), position, lost, wait, admit)

    def predict(self, model: Model, told: object) -> object:
        hand, session = model.writer(self.key, takes_positions=True)
        first = session.next_position
        match hand.stage:
            case Stage.BEGIN_TURN:
                goes_on, stage = self._begin_turn(model, session), Stage.SPEAK
            case Stage.BEGIN_VOICE_AGAIN:
                goes_on, stage = self._begin_voice_again(model, session), Stage.SPEAK
            case Stage.BEGIN_ROUND:
                goes_on, stage = self._begin_round(model, session, hand.view.next_round), Stage.ASKED
            case _:
                goes_on, stage = self._take_up(model, session), Stage.BEGIN_ROUND
        if not goes_on:
            model.forget(self.key)
            return None
        model.goes_on(hand, stage)
        rows = [(m.position, m.type) for m in session.transcript[first - 1 :]]
        return place(hand), rows, session.revision, session.interrupted

    def _begin_turn(self, model: Model, session: Session) -> bool:
        if session.state == "active":
            due = session.due_messages(ALL_MODES, model.clock)
            in_time = session.config.autonomous and session.due is not None and session.due <= model.clock
            if (due or in_time) and not session.reaches_limit(new_turn=True):
                session.turn, session.turn_open, session.turn_goal = session.turn + 1, True, session.goal
                session.round, session.attempt, session.interrupted, session.rounds_from = 0, 1, False, 0
                session.record("turn_started", turn=session.turn)
                session.deliver(due, self.admit)
                return True
        session.release(model.clock)
        return False

    def _begin_voice_again(self, model: Model, session: Session) -> bool:
        if session.state != "active" or session.reaches_limit():
            session.release(model.clock)
            return False
        session.attempt += 1
        session.deliver(session.due_messages(ALL_MODES, model.clock), self.admit)
        return True

    def _begin_round(self, model: Model, session: Session, number: int) -> bool:
        again = session.round == number
        if session.state != "active" or session.reaches_limit(new_round=not again):
            session.release(model.clock)
            return False
        session.attempt = session.attempt + 1 if again else 1
        session.round, session.interrupted = number, session.interrupted and again
        session.deliver(session.due_messages(NEXT_ROUND_MODES, model.clock), self.admit)
        session.record("round_started", turn=session.turn, round=number, attempt=session.attempt)
        return True

    def _take_up(self, model: Model, session: Session) -> bool:
        if session.state != "active":
            session.release(model.clock)
            return False
        wait = session.wait
        for lost in session.open_calls:
            if lost != wait:
                session.answer(lost)
        if wait and wait.deadline is not None:
            due = session.due_messages(ALL_MODES, model.clock)
            goes_on_waiting = not due and wait.deadline > model.clock
            if goes_on_waiting or session.reaches_limit(new_round=True):
                session.release(model.clock, wait.deadline)
                return False
            session.answer(wait)
            session.deliver(due, self.admit)
        return True


def _told(point: SafePoint | None) -> object:
    if point is None:
        return None
    rows = [(row.position, row.type.value) for row in point.rows]
    return point.place, rows, point.revision, point.interrupted


class _Appends(ABC):
    """Writes rows, and what goes with them. One that does so twice has not heard of the first time."""

    key: Key
    twice: bool

    async def perform(self, world: World) -> object:
        await self.write(world, world.model.hands[self.key])
        if self.twice:
            try:
                await self.write(world, world.model.hands[self.key])
            except LeaseLost:
                return "written once"
        return None

    def predict(self, model: Model, told: object) -> object:
        hand, session = model.writer(self.key, takes_positions=True)
        self.written(model, hand, session)
        return "written once" if self.twice else None

    @abstractmethod
    async def write(self, world: World, hand: Hand) -> None: ...

    @abstractmethod
    def written(self, model: Model, hand: Hand, session: Session) -> None: ...


@dataclass(frozen=True)
class Speak(_Appends):
    """The inner voice does."""

    key: Key
    twice: bool = False

    async def write(self, world: World, hand: Hand) -> None:
        rows, position = [user(f"user {hand.view.turn}")], hand.view.next_position
        await world.store.transcript.append(world.lease(self.key), position, place(hand), rows, USAGE)

    def written(self, model: Model, hand: Hand, session: Session) -> None:
        session.append(f"user {session.turn}", "user")
        session.spend()
        model.goes_on(hand, Stage.BEGIN_ROUND)


@dataclass(frozen=True)
class Reply(_Appends):
    """With calls, of which `w` is one that waits."""

    key: Key
    calls: tuple[str, ...]
    says: bool = False
    twice: bool = False

    async def write(self, world: World, hand: Hand) -> None:
        rows = [assistant(f"words {hand.view.turn}.{hand.view.round}")] if self.says else []
        for name in self.calls:
            content, hours = call(name).content, WAIT_HOURS if name == "w" else None
            seconds = hours and hours * HOUR.total_seconds()
            rows.append(NewMessage(MessageType.TOOL_CALL, content, wait_seconds=seconds))
        lease, position = world.lease(self.key), hand.view.next_position
        await world.store.transcript.append_reply(lease, position, place(hand), rows, USAGE)

    def written(self, model: Model, hand: Hand, session: Session) -> None:
        at = f"{session.turn}.{session.round}"
        if self.says:
            session.append(f"words {at}", "assistant")
        for name in self.calls:
            deadline = model.clock + WAIT_HOURS if name == "w" else None
            session.append(f"{at} {name}", "tool_call", deadline=deadline)
        session.attempts = 0
        session.spend()
        model.goes_on(hand, Stage.TOOLS)


@dataclass(frozen=True)
class Answer(_Appends):
    """The last words of a turn."""

    key: Key
    twice: bool = False

    async def write(self, world: World, hand: Hand) -> None:
        rows = [assistant(f"words {hand.view.turn}.{hand.view.round}")]
        lease, position = world.lease(self.key), hand.view.next_position
        await world.store.transcript.append_answer(lease, position, place(hand), rows, USAGE)

    def written(self, model: Model, hand: Hand, session: Session) -> None:
        session.append(f"words {session.turn}.{session.round}", "assistant")
        session.record("turn_ended", turn=session.turn, reason="answered")
        session.turn_open, session.attempts, session.not_before = False, 0, None
        session.due = model.clock + session.config.cooldown
        session.release(model.clock)
        session.spend()
        model.forget(self.key)


@dataclass(frozen=True)
class Respond(_Appends):
    """So many tools do."""

    key: Key
    count: int
    twice: bool = False

    async def write(self, world: World, hand: Hand) -> None:
        rows = [response(call_id(m.name)) for m in self._answered(hand.view)]
        lease, position = world.lease(self.key), hand.view.next_position
        await world.store.transcript.append(lease, position, place(hand), rows, Usage())

    def written(self, model: Model, hand: Hand, session: Session) -> None:
        for answered in self._answered(session):
            session.answer(answered)
        model.goes_on(hand, Stage.TOOLS if session.open_calls else Stage.BEGIN_ROUND)

    def _answered(self, session: Session) -> list[Message]:
        return [m for m in session.open_calls if m.deadline is None][: self.count]


@dataclass(frozen=True)
class Compact(_Appends):
    """A summary of everything before the last reply."""

    key: Key
    twice: bool = False

    async def write(self, world: World, hand: Hand) -> None:
        transcript, last = world.store.transcript, last_reply(hand.view)
        covers = covered(hand.view)
        handled = await transcript.handled(world.session_ids[hand.session], covers, 50)
        at = Place(last.turn, last.round, 1)
        made = Compaction(summary(f"summary {covers}"), covers, at, TERMS, handled.count, True, USAGE)
        await transcript.compact(world.lease(self.key), hand.view.next_position, made)

    def written(self, model: Model, hand: Hand, session: Session) -> None:
        covers, last = covered(session), last_reply(session)
        at = {"turn": last.turn, "round": last.round, "covers": covers}
        handled = sum(m.type == "system" for m in session.transcript[:covers])
        session.append(f"summary {covers}", "summary", "compacted", {"handled_interrupts": handled}, **at)
        session.spend()
        model.goes_on(hand, hand.stage)


def last_reply(session: Session) -> Message:
    """The first row of it."""
    words = [m for m in session.transcript if m.type in ("assistant", "tool_call")]
    return next(m for m in words if (m.turn, m.round) == (words[-1].turn, words[-1].round))


def covered(session: Session) -> int:
    """How much a summary would cover: all that comes before the last reply."""
    if not any(m.type in ("assistant", "tool_call") for m in session.transcript):
        return 0
    return (last_reply(session).position or 1) - 1
