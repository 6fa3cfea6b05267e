"""What a worker writes that takes no position, and how it lets go of its session."""

from dataclasses import dataclass

from agent_service.domain import RoundFailure, Usage
from tests.store.machine.model import INPUT_TOKENS, OUTPUT_TOKENS, SUSPECT_ATTEMPTS, Key, Model, Stage
from tests.store.machine.turns import call_id, place
from tests.store.machine.world import HOUR, World, replica_id
from tests.support import call


@dataclass(frozen=True)
class See:
    """The first chunk of a reply has arrived, to a request with so many of the interrupts not yet seen."""

    key: Key
    most: int = 9

    async def perform(self, world: World) -> object:
        hand = world.model.hands[self.key]
        seen = [world.interrupt_ids[hand.session, m.name] for m in hand.view.unseen[: self.most]]
        await world.store.transcript.see(world.lease(self.key), seen)
        return None

    def predict(self, model: Model, told: object) -> object:
        hand, session = model.writer(self.key)
        session.see(m.name for m in hand.view.unseen[: self.most])
        model.goes_on(hand, Stage.ASKED if session.unseen else Stage.REPLY)
        return None


@dataclass(frozen=True)
class Look:
    """Told is whether an immediate interrupt waits that came after the last safe point."""

    key: Key

    async def perform(self, world: World) -> object:
        revision = world.model.hands[self.key].view.revision
        return await world.store.safe_points.immediate_waits(world.lease(self.key), revision)

    def predict(self, model: Model, told: object) -> object:
        hand, session = model.writer(self.key)
        later = [m for m in session.pending if m.posted > hand.view.revision and not m.is_over(model.clock)]
        return any(m.post and m.post.delivery == "immediate" for m in later)


@dataclass(frozen=True)
class StartTools:
    key: Key

    async def perform(self, world: World) -> object:
        hand = world.model.hands[self.key]
        calls = [call(call_id(m.name)).content for m in hand.view.open_calls if m.deadline is None]
        await world.store.transcript.start_tools(world.lease(self.key), place(hand), calls)
        return None

    def predict(self, model: Model, told: object) -> object:
        hand, session = model.writer(self.key)
        for message in hand.view.open_calls:
            if message.deadline is None:
                at = {"turn": session.turn, "round": session.round}
                session.record("tool_call_started", **at, call_id=call_id(message.name))
        model.goes_on(hand, Stage.TOOLS)
        return None


@dataclass(frozen=True)
class FailRequest:
    """The worker asks again from a safe point."""

    key: Key
    reason: RoundFailure

    async def perform(self, world: World) -> object:
        at, cost = place(world.model.hands[self.key]), Usage(INPUT_TOKENS, 0, OUTPUT_TOKENS)
        lease = world.lease(self.key)
        await world.store.transcript.fail_request(lease, at, self.reason, "as the rule says", cost)
        return None

    def predict(self, model: Model, told: object) -> object:
        hand, session = model.writer(self.key)
        at = place(hand)
        session.record(
            "round_failed", turn=at.turn, round=at.round, attempt=at.attempt, reason=self.reason.value
        )
        session.interrupted |= self.reason is RoundFailure.INTERRUPTED
        session.spend()
        again = Stage.BEGIN_VOICE_AGAIN if hand.stage is Stage.SPEAK else Stage.BEGIN_ROUND
        model.goes_on(hand, again)
        return None


@dataclass(frozen=True)
class FailRound:
    """The worker lets go, and so do others for some hours."""

    key: Key
    hours: int

    async def perform(self, world: World) -> object:
        lease, at = world.lease(self.key), place(world.model.hands[self.key])
        reason, seconds = RoundFailure.MODEL_UNAVAILABLE, self.hours * HOUR.total_seconds()
        await world.store.transcript.fail_round(lease, at, reason, "as the rule says", Usage(), seconds)
        return None

    def predict(self, model: Model, told: object) -> object:
        hand, session = model.writer(self.key)
        at = place(hand)
        reason = RoundFailure.MODEL_UNAVAILABLE.value
        session.record("round_failed", turn=at.turn, round=at.round, attempt=at.attempt, reason=reason)
        session.not_before = model.clock + self.hours
        session.release(model.clock, session.not_before)
        model.forget(self.key)
        return None


@dataclass(frozen=True)
class SetAside:
    key: Key
    hours: int

    async def perform(self, world: World) -> object:
        lease, seconds = world.lease(self.key), self.hours * HOUR.total_seconds()
        await world.store.transcript.set_aside(lease, seconds)
        return None

    def predict(self, model: Model, told: object) -> object:
        _, session = model.writer(self.key)
        session.not_before = model.clock + self.hours
        session.release(model.clock, session.not_before)
        model.forget(self.key)
        return None


@dataclass(frozen=True)
class Park:
    """Until the deadline of the wait, or an interrupt."""

    key: Key

    async def perform(self, world: World) -> object:
        wait = world.model.hands[self.key].view.wait
        assert wait
        assert wait.deadline is not None
        await world.store.transcript.park(world.lease(self.key), world.at(wait.deadline))
        return None

    def predict(self, model: Model, told: object) -> object:
        hand, session = model.writer(self.key)
        wait = hand.view.wait
        session.release(model.clock, wait.deadline if wait else None)
        model.forget(self.key)
        return None


@dataclass(frozen=True)
class Release:
    """To nobody, or to a replica that is there and takes sessions."""

    key: Key
    taker: str | None = None

    async def perform(self, world: World) -> object:
        taker = replica_id(self.taker) if self.taker else None
        await world.store.transcript.release(world.lease(self.key), taker)
        return None

    def predict(self, model: Model, told: object) -> object:
        _, session = model.writer(self.key)
        session.release(model.clock)
        takes = self.taker and model.is_alive(self.taker) and model.replicas[self.taker].takes
        if takes and session.state == "active" and session.attempts < SUSPECT_ATTEMPTS:
            session.owner = self.taker
        model.forget(self.key)
        return None
