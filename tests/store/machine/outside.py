"""What others do with a session: clients, the sweep, and time."""

from dataclasses import dataclass, replace
from datetime import timedelta
from hashlib import sha256
from typing import TypeAlias

from agent_service.domain import Delivery, Deposit, NewSession, Nudge, Session, SessionConfig, SessionMode
from agent_service.store.deposits import Deposited
from tests.store.machine import model as rules
from tests.store.machine.model import (
    MAX_PENDING,
    MAX_PENDING_PER_SOURCE,
    Config,
    Message,
    Model,
    Post,
    Refused,
)
from tests.store.machine.world import HOUR, NOBODY, World

_PASS = """
WITH s AS (UPDATE sessions SET due_at = due_at - $1::interval, not_before = not_before - $1::interval),
     m AS (UPDATE messages SET deadline = deadline - $1::interval, expire_time = expire_time - $1::interval)
UPDATE replicas SET lease_until = lease_until - $1::interval"""


def session_config(config: Config) -> SessionConfig:
    return SessionConfig(
        "demo",
        mode=SessionMode.AUTONOMOUS if config.autonomous else SessionMode.ON_INTERRUPT,
        cooldown=config.cooldown * HOUR,
        max_rounds_per_turn=config.max_rounds,
        max_turns=config.max_turns,
        token_budget=config.token_budget,
    )


@dataclass(frozen=True)
class Create:
    session: str
    config: Config

    async def perform(self, world: World) -> object:
        new = NewSession(self.session, "Keep the lamp.", session_config(self.config), {})
        created = await world.store.sessions.create(new)
        world.session_ids[self.session] = created.session.session_id
        return None

    def predict(self, model: Model, told: object) -> object:
        due = model.clock if self.config.autonomous else None
        session = model.sessions[self.session] = rules.Session(self.session, self.config, due=due)
        session.tell()
        return None


@dataclass(frozen=True)
class Deposits:
    """Posts that arrive together, at one of the replicas. Each is told: whether it was a duplicate, and the
    state of the interrupt; or why not."""

    door: int
    posts: tuple[Post, ...]

    async def perform(self, world: World) -> object:
        deposits = [self._deposit(world, n, post) for n, post in enumerate(self.posts)]
        results = await world.doors[self.door].deposits.deposit_all(deposits)
        return [self._told(world, *pair) for pair in zip(self.posts, results, strict=True)]

    def _deposit(self, world: World, n: int, post: Post) -> Deposit:
        expires = None if post.expires is None else world.at(post.expires) + timedelta(microseconds=n)
        digest = sha256(repr(post).encode()).digest()
        return Deposit(
            world.session_ids.get(post.session, NOBODY),
            post.source,
            principal(post),
            Nudge(post.text),
            Delivery(post.delivery),
            post.key,
            expires,
            post.request_id,
            digest,
        )

    def _told(self, world: World, post: Post, result: Deposited | BaseException) -> object:
        if not isinstance(result, Deposited):
            return type(result).__name__
        interrupt = result.interrupt
        known = world.interrupt_ids.setdefault((post.session, post.name), interrupt.interrupt_id)
        assert known == interrupt.interrupt_id, "one request id, one interrupt"
        return result.duplicate, interrupt.state.value

    def predict(self, model: Model, told: object) -> object:
        decided = [_decide(model, post) for post in self.posts]
        return [
            (outcome, model.sessions[post.session].messages[post.name].state)
            if isinstance(outcome, bool)
            else outcome
            for post, outcome in zip(self.posts, decided, strict=True)
        ]


def principal(post: Post) -> str:
    return f"the principal of {post.source}"


def _decide(model: Model, post: Post) -> bool | str:
    """Whether a post is a duplicate, or why it is refused."""
    session = model.sessions.get(post.session)
    if session is None:
        return "SessionNotFound"
    if known := session.messages.get(post.name):
        return True if known.post == post else "RequestIdReused"
    if session.state == "ended":
        return "SessionEnded"
    if post.expires is not None and post.expires <= model.clock:
        return "InvalidField"
    of_source = [m for m in session.pending if m.post and m.post.source == post.source]
    replaced = [m.name for m in of_source if m.post and post.key and m.post.key == post.key]
    most = len(replaced)
    if len(session.pending) - most >= MAX_PENDING or len(of_source) - most >= MAX_PENDING_PER_SOURCE:
        return "TooManyPending"
    session.settle(replaced, "superseded")
    posted = session.record("interrupt_posted", post.name)
    session.messages[post.name] = Message(
        post.name, "system", posted=posted, principal=principal(post), post=post
    )
    return False


@dataclass(frozen=True)
class Cancel:
    session: str
    name: str

    async def perform(self, world: World) -> object:
        interrupt_id = world.interrupt_ids[self.session, self.name]
        return (await world.store.interrupts.cancel(interrupt_id)).state.value

    def predict(self, model: Model, told: object) -> object:
        session = model.sessions[self.session]
        message = session.messages[self.name]
        if message.pending:
            session.settle([self.name], "cancelled")
        elif message.state != "cancelled":
            raise Refused("InterruptNotPending")
        return "cancelled"


@dataclass(frozen=True)
class Sweep:
    """Passes by a session whose row somebody has."""

    passes_by: str | None = None

    async def perform(self, world: World) -> object:
        await world.store.interrupts.expire(100)
        return None

    def predict(self, model: Model, told: object) -> object:
        for session in model.sessions.values():
            if session.name != self.passes_by:
                over = [m for m in session.pending if m.is_over(model.clock)]
                over.sort(key=lambda m: (m.post and m.post.expires, m.posted))
                session.settle([m.name for m in over], "expired")
        return None


@dataclass(frozen=True)
class Pause:
    session: str

    async def perform(self, world: World) -> object:
        await world.store.sessions.pause(world.session_ids[self.session])
        return None

    def predict(self, model: Model, told: object) -> object:
        session = _lasting(model, self.session)
        if session.state == "active":
            session.state = "paused"
            session.tell()
        return None


@dataclass(frozen=True)
class Resume:
    session: str

    async def perform(self, world: World) -> object:
        await world.store.sessions.resume(world.session_ids[self.session])
        return None

    def predict(self, model: Model, told: object) -> object:
        session = _lasting(model, self.session)
        if session.state in ("paused", "failed"):
            session.state, session.due, session.not_before, session.attempts = "active", model.clock, None, 0
            session.rounds_from, session.tokens_from = session.round, session.tokens
            session.tell()
        return None


@dataclass(frozen=True)
class Update:
    session: str
    goal: str
    config: Config

    async def perform(self, world: World) -> object:
        def change(found: Session) -> Session:
            return replace(found, goal=self.goal, config=session_config(self.config))

        await world.store.sessions.update(world.session_ids[self.session], change)
        return None

    def predict(self, model: Model, told: object) -> object:
        session = _lasting(model, self.session)
        before = session.config
        if (session.goal, before) == (self.goal, self.config):
            return None
        session.goal, session.config = self.goal, self.config
        session.tell()
        same = (before.autonomous, before.cooldown) == (self.config.autonomous, self.config.cooldown)
        if not session.turn_open and not same:
            session.due = self._due(before, session.due, model.clock)
        return None

    def _due(self, before: Config, due: int | None, clock: int) -> int | None:
        """At once, and never later than it was to be."""
        if not self.config.autonomous:
            return None
        if not before.autonomous:
            return clock
        after_cooldown = clock + self.config.cooldown
        return after_cooldown if due is None else min(due, after_cooldown)


@dataclass(frozen=True)
class End:
    session: str

    async def perform(self, world: World) -> object:
        await world.store.sessions.end(world.session_ids[self.session])
        return None

    def predict(self, model: Model, told: object) -> object:
        session = model.sessions[self.session]
        if session.state == "ended":
            return None
        for call in session.open_calls:
            session.answer(call)
        if session.turn_open:
            session.record("turn_ended", turn=session.turn, reason="session_ended")
        session.settle([m.name for m in session.outstanding], "cancelled")
        session.state, session.turn_open, session.attempts = "ended", False, 0
        session.release(model.clock)
        session.due = session.not_before = None
        session.tell()
        return None


@dataclass(frozen=True)
class PassTime:
    hours: int

    async def perform(self, world: World) -> object:
        async with world.store.database.connection() as connection:
            await connection.execute(_PASS, self.hours * HOUR)
        return None

    def predict(self, model: Model, told: object) -> object:
        model.clock += self.hours
        return None


def _lasting(model: Model, name: str) -> rules.Session:
    session = model.sessions[name]
    if session.state == "ended":
        raise Refused("SessionEnded")
    return session


Outward: TypeAlias = Deposits | Cancel | Sweep | Pause | Resume | Update | End
