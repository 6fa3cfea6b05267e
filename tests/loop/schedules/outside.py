"""Everybody who has to do with a session from outside, and time."""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import assert_never

from agent_service.domain import (
    Delivery,
    Deposit,
    Event,
    InterruptChanged,
    InterruptState,
    MessageAppended,
    Session,
    SessionId,
)
from agent_service.errors import InterruptNotPending, SessionEnded
from tests.loop.schedules.evidence import SessionRow, Witness, read_session
from tests.loop.schedules.plan import Barge, Deed, Outward, Post, Update
from tests.support import Store, deposit

_COUNT = """
SELECT outstanding, (
    SELECT count(*) FROM messages WHERE session_id = s.session_id AND type = 'system'
        AND settled_at IS NULL AND seen_at IS NULL)
FROM sessions s WHERE session_id = $1"""

_EXPIRE = """
UPDATE messages SET expire_time = clock_timestamp()
WHERE session_id = $1 AND expire_time IS NOT NULL AND position IS NULL AND settled_at IS NULL
RETURNING message_id"""

_PASS_DEADLINES = "UPDATE messages SET deadline = now() WHERE session_id = $1 AND deadline > now()"

_PASS_TIME = """
UPDATE sessions SET not_before = NULL, due_at = CASE WHEN due_at > now() THEN now() ELSE due_at END
WHERE session_id = $1"""


@dataclass
class Outside:
    store: Store
    session_id: SessionId
    witness: Witness = field(default_factory=Witness)
    _posted: list[Deposit] = field(default_factory=list)
    _behind: set[asyncio.Task[None]] = field(default_factory=set)
    _marks: Iterator[int] = field(default_factory=count)
    _watched: list[Event] = field(default_factory=list)

    def mark(self) -> str:
        """What no other row says."""
        return f"[#{next(self._marks)}]"

    async def session(self) -> SessionRow:
        async with self.store.database.connection() as connection:
            return await read_session(connection, self.session_id)

    async def does(self, act: Outward) -> None:
        """What comes too late, the session having ended, does not happen."""
        with suppress(SessionEnded):
            match act:
                case Barge():
                    await self._post(Post(Delivery.IMMEDIATE))
                case Post(behind=True):
                    self._behind.add(asyncio.create_task(self.does(replace(act, behind=False))))
                case Post():
                    await self._post(act)
                case Update():
                    await self._update(act)
                case Deed():
                    await self._do(act)
                case unreachable:
                    assert_never(unreachable)

    async def is_done(self) -> None:
        """Wait for what goes on behind."""
        behind, self._behind = self._behind, set()
        await asyncio.gather(*behind)

    async def _post(self, post: Post) -> None:
        text = f"{self.mark()} {'x' * post.bytes}"
        expire_time = datetime.now(UTC) + timedelta(hours=1) if post.expires else None
        key = "key" if post.coalesced else ""
        asked = deposit(self.session_id, text, post.source, post.delivery, key, expire_time)
        posts = [self.store.deposits.deposit(asked) for _ in range(1 + post.twice)]
        deposited = await asyncio.gather(*posts)
        self._posted.append(asked)
        self.witness.acknowledged[deposited[0].interrupt.interrupt_id] = text
        if len({one.interrupt.interrupt_id for one in deposited}) > 1:
            self.witness.complaints.append((1, f"{text[:8]} was deposited twice"))

    async def repeat_every_post(self) -> None:
        """As a client does that got no answer: it is told of what it has posted before."""
        for asked in self._posted:
            again = await self.store.deposits.deposit(asked)
            if not again.duplicate or again.interrupt.interrupt_id not in self.witness.acknowledged:
                self.witness.complaints.append((1, "a post was repeated and taken for a new one"))

    async def _update(self, update: Update) -> None:
        changed = {update.field: update.value}

        def change(session: Session) -> Session:
            if update.field == "goal":
                return replace(session, **changed)  # type: ignore[arg-type]
            return replace(session, config=replace(session.config, **changed))  # type: ignore[arg-type]

        await self.store.sessions.update(self.session_id, change)

    async def _do(self, deed: Deed) -> None:
        match deed:
            case Deed.WITHDRAW:
                await self._withdraw()
            case Deed.EXPIRE:
                await self._expire()
            case Deed.SWEEP:
                await self.store.interrupts.expire(100)
            case Deed.PAUSE:
                await self.store.sessions.pause(self.session_id)
            case Deed.RESUME:
                await self.store.sessions.resume(self.session_id)
            case Deed.END:
                await self.store.sessions.end(self.session_id)
            case Deed.PASS_TIME:
                await self._pass_time()
            case unreachable:
                assert_never(unreachable)

    async def _withdraw(self) -> None:
        pending = await self.store.interrupts.page(self.session_id, 0, 1000, [InterruptState.PENDING])
        for newest in pending[-1:]:
            self.witness.withdrawn.add(newest.interrupt_id)
            with suppress(InterruptNotPending):  # It is delivered at this moment.
                await self.store.interrupts.cancel(newest.interrupt_id)

    async def _expire(self) -> None:
        async with self.store.database.connection() as connection:
            rows = await connection.fetch(_EXPIRE, self.session_id)
        self.witness.expired.update(row["message_id"] for row in rows)

    async def _pass_time(self) -> None:
        async with self.store.database.connection() as connection:
            await connection.execute(_PASS_DEADLINES, self.session_id)
            await connection.execute(_PASS_TIME, self.session_id)

    async def look(self) -> None:
        """Count what is outstanding, and watch on."""
        async with self.store.database.connection() as connection:
            row = await connection.fetchrow(_COUNT, self.session_id)
        assert row
        self.witness.counts.append((row[0], row[1]))
        last = self._watched[-1].revision if self._watched else 0
        self._watched += await self.store.streams.page(self.session_id, last, 1000)

    async def look_back(self) -> None:
        """What was shown live must be what is shown now."""
        await self.look()
        now = await self.store.streams.page(self.session_id, 0, 10_000)
        if [*map(_timeless, self._watched)] != [*map(_timeless, now)]:
            self.witness.complaints.append((7, "the events are not those that were shown live"))


def _timeless(event: Event) -> Event:
    """An event as a client sees it, who is not told how much a model is shown, without the times that come
    before their time here."""
    match event.happening:
        case InterruptChanged(_, interrupt) as changed:
            told = replace(interrupt, expire_time=None, shown_bytes=0)
            return replace(event, happening=replace(changed, interrupt=told))
        case MessageAppended(message):
            return replace(event, happening=MessageAppended(replace(message, deadline=None)))
        case _:
            return event
