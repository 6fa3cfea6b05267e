"""Deposits: the commit that an acknowledgement stands for.

A batch takes the rows of its sessions in order, and only those that nobody else has: a session whose row is
held delays its own posts and no others. It reads the messages in later statements, so that they are not older
than the locks.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import NamedTuple, Self, TypeAlias, assert_never

import asyncpg

from agent_service.domain import (
    Deposit,
    Fact,
    Interrupt,
    MessageId,
    Notification,
    Nudge,
    SessionId,
    SessionState,
    new_id,
)
from agent_service.errors import SessionNotFound, SparkError, Unavailable
from agent_service.settings import Limits
from agent_service.store.database import Database, Hot
from agent_service.store.deposit_book import Book, Kept, Key, deposited
from agent_service.store.group_commit import GroupCommit
from agent_service.store.ledger import Ledger, close, opened
from agent_service.store.rows import MESSAGE_COLUMNS, get, interrupt
from agent_service.wakeups import Wakeups

MAX_GROUP = 500
# Of the connections of the pool so many at most wait for rows.
MAX_WAITING_ROOMS = 3
# How long those of a caller's deposits that are decided are kept from it by those that wait for a row.
HELD_SECONDS = 0.5

_LOCK = """
SELECT session_id, state, revision, outstanding, clock_timestamp() AS now FROM sessions
WHERE session_id = ANY ($1::uuid[]) ORDER BY session_id FOR NO KEY UPDATE"""

# Of the rows that were skipped, or are not there.
_THERE = "SELECT ARRAY (SELECT session_id FROM sessions WHERE session_id = ANY ($1::uuid[]))"

_KNOWN = f"""
SELECT {MESSAGE_COLUMNS}, request_id, digest FROM messages
JOIN unnest($1::uuid[], $2::text[], $3::text[]) AS k (session_id, source, request_id)
     USING (session_id, source, request_id)"""

_PENDING = """
SELECT session_id, source, coalesce_key, message_id FROM messages
WHERE session_id = ANY ($1::uuid[]) AND type = 'system' AND position IS NULL AND settled_at IS NULL"""

# What `_columns` gives.
_TYPES = {
    "session_id": "uuid",
    "message_id": "uuid",
    "source": "text",
    "principal": "text",
    "text": "text",
    "notification_type": "text",
    "subject": "text",
    "data_json": "text",
    "delivery": "text",
    "request_id": "text",
    "digest": "bytea",
    "hops": "int",
}
_COLUMNS = ", ".join(_TYPES)
_LISTS = ", ".join(f"${n}::{kind}[]" for n, kind in enumerate(_TYPES.values(), 1))
_VALUES = ", ".join(f"${n}::{kind} AS {name}" for n, (name, kind) in enumerate(_TYPES.items(), 1))

_INSERT = f"""
INSERT INTO messages ({_COLUMNS}, coalesce_key, expire_time, posted_at, posted_revision, type)
SELECT *, 'system'
FROM unnest({_LISTS}, $13::text[], $14::timestamptz[], $15::timestamptz[], $16::bigint[])"""

# Deposits that cannot replace, expire or be one too many only append. A request id used before breaks the
# unique index, and nothing of it happens.
_APPEND = f"""
, raised AS (
    UPDATE sessions s SET revision = f.posted_revision, outstanding = s.outstanding + many FROM fresh f
    WHERE s.session_id = f.session_id AND nth = many
), inserted AS (
    INSERT INTO messages ({_COLUMNS}, posted_at, posted_revision, type)
    SELECT {_COLUMNS}, posted_at, posted_revision, 'system' FROM fresh
), recorded AS (
    INSERT INTO events (session_id, revision, create_time, type, message_id)
    SELECT session_id, posted_revision, posted_at, 'interrupt_posted', message_id FROM fresh
)
SELECT place, posted_at, posted_revision FROM fresh"""

_APPEND_ONE = f"""
WITH fresh AS (
    SELECT d.*, 1 AS place, 1 AS nth, 1 AS many, revision + 1 AS posted_revision,
           clock_timestamp() AS posted_at
    FROM sessions s, (SELECT {_VALUES}) AS d
    WHERE s.session_id = $1 AND state <> 'ended' AND outstanding < $13 FOR NO KEY UPDATE OF s SKIP LOCKED
){_APPEND}"""

# A session of which only some rows are held came free in between, and is left alone: its deposits would
# change places.
_APPEND_ALL = f"""
WITH sent AS (
    SELECT *, row_number() OVER (PARTITION BY session_id ORDER BY place) AS nth,
           count(*) OVER (PARTITION BY session_id) AS many
    FROM unnest({_LISTS}) WITH ORDINALITY AS d ({_COLUMNS}, place)
), held AS (
    SELECT sent.*, revision + nth AS posted_revision FROM sent JOIN sessions s USING (session_id)
    WHERE s.state <> 'ended' AND s.outstanding + many <= $13
    ORDER BY s.session_id FOR NO KEY UPDATE OF s SKIP LOCKED
), fresh AS (
    SELECT *, (SELECT clock_timestamp()) AS posted_at
    FROM (SELECT *, count(*) OVER (PARTITION BY session_id) AS held FROM held) AS h WHERE held = many
){_APPEND}"""


@dataclass(frozen=True, slots=True)
class Deposited:
    """The interrupt in its current state; a duplicate had been deposited before under its request id."""

    interrupt: Interrupt
    duplicate: bool


_Decided: TypeAlias = Deposited | SparkError
# What becomes of a post that waits for the row of its session.
_Waiting: TypeAlias = asyncio.Future[Sequence[_Decided | Exception]]


class Deposits:
    """Deposits interrupts, those that arrive together in one transaction. To be entered before use.

    Posts to a session whose row somebody else holds wait for it in a room of their own: in one transaction,
    in their order, and only a few rooms at a time, so that other sessions find connections.
    """

    def __init__(self, database: Database, wakeups: Wakeups, limits: Limits) -> None:
        self._database, self._wakeups, self._limits = database, wakeups, limits
        self._tasks = asyncio.TaskGroup()
        self._group = GroupCommit(self._commit_together, MAX_GROUP, self._tasks)
        self._rooms: dict[SessionId, GroupCommit[Deposit, _Decided]] = {}
        self._waiting = asyncio.Semaphore(MAX_WAITING_ROOMS)

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._tasks.__aexit__(kind, error, traceback)

    async def deposit(self, deposit: Deposit) -> Deposited:
        """Return after the commit. The same request id again gives the same interrupt, whatever became of it.

        Raises SessionNotFound, SessionEnded, RequestIdReused, TooManyPending, InvalidField for an expire time
        that has passed, and Unavailable when nobody knows whether the commit happened: then repeat it.
        """
        (outcome,) = await self.deposit_all([deposit])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def deposit_all(self, deposits: Sequence[Deposit]) -> Sequence[Deposited | Exception]:
        """What `deposit` would return or raise, for each of several at once. Of those that wait much longer
        than the others nobody knows."""
        outcomes = await self._group.submit(deposits)
        if waiting := [one for one in outcomes if isinstance(one, asyncio.Future)]:
            await asyncio.wait(waiting, timeout=HELD_SECONDS if len(waiting) < len(outcomes) else None)
        return list(map(_by_now, outcomes))

    async def _commit_together(self, group: Sequence[Deposit]) -> Sequence[_Decided | _Waiting]:
        """Nobody goes past those who wait for the same row, be it since before or from now on."""
        waiting = [self._wait(deposit) if deposit.session_id in self._rooms else None for deposit in group]
        free = [deposit for deposit, waits in zip(group, waiting, strict=True) if not waits]
        decided = iter(await self._commit_free(free))
        return [
            waits or next(decided) or self._wait(deposit)
            for deposit, waits in zip(group, waiting, strict=True)
        ]

    def _wait(self, deposit: Deposit) -> _Waiting:
        """Wait in the room of the session. It is left as soon as nobody waits."""
        session_id = deposit.session_id
        if session_id not in self._rooms:
            leave = partial(self._rooms.pop, session_id, None)
            self._rooms[session_id] = GroupCommit(self._commit_waiting, MAX_GROUP, self._tasks, leave)
        return self._rooms[session_id].submit([deposit])

    async def _commit_waiting(self, room: Sequence[Deposit]) -> Sequence[_Decided]:
        """All of a room is decided, or nothing: its posts wait for one row."""
        pause_seconds = 0.002
        while self._waiting.locked():
            # As many wait for rows as may: see whether this row is free, now and then.
            if decided := [one for one in await self._commit_batch(room, wait=False) if one]:
                return decided
            await asyncio.sleep(pause_seconds)
            pause_seconds = min(2 * pause_seconds, 0.1)
        async with self._waiting:
            return [one for one in await self._commit_batch(room, wait=True) if one]

    async def _commit_free(self, group: Sequence[Deposit]) -> Sequence[_Decided | None]:
        """None: somebody else has the session's row, and nothing was decided."""
        appended = await self._append(group)
        left = [deposit for deposit, done in zip(group, appended, strict=True) if not done]
        decided = iter(await self._commit_batch(left, wait=False) if left else ())
        return [done or next(decided) for done in appended]

    async def _append(self, group: Sequence[Deposit]) -> Sequence[Deposited | None]:
        """The short way, in one statement. None where a closer look is needed."""
        if not group or any(deposit.coalesce_key or deposit.expire_time for deposit in group):
            return [None] * len(group)
        new = [(MessageId(new_id()), deposit) for deposit in group]
        least = min(self._limits.max_pending, self._limits.max_pending_per_source)
        try:
            async with self._database.connection() as connection:
                if len(new) == 1:
                    rows = await connection.fetch(_APPEND_ONE, *(one for (one,) in _columns(new)), least)
                else:
                    rows = await connection.fetch(_APPEND_ALL, *_columns(new), least)
        except asyncpg.UniqueViolationError:
            return [None] * len(group)
        posted = {place: Fact(time, revision) for place, time, revision in rows}
        for session_id in {group[place - 1].session_id for place in posted}:
            self._wakeups.hint(session_id)
        return [
            Deposited(deposited(interrupt_id, deposit, posted[place]), duplicate=False)
            if place in posted
            else None
            for place, (interrupt_id, deposit) in enumerate(new, 1)
        ]

    async def _commit_batch(self, batch: Sequence[Deposit], wait: bool) -> Sequence[_Decided | None]:
        try:
            return await self._commit_once(batch, wait)
        except asyncpg.UniqueViolationError:
            # The batch knew less than the database does by now: a fresh look finds the duplicate.
            return await self._commit_once(batch, wait)

    async def _commit_once(self, batch: Sequence[Deposit], wait: bool) -> Sequence[_Decided | None]:
        async with self._database.transaction() as connection:
            ledgers, ended = await _lock(connection, batch, wait)
            skipped = [deposit.session_id for deposit in batch if deposit.session_id not in ledgers]
            there = await connection.fetchval(_THERE, skipped) if skipped and not wait else ()
            book = Book(ledgers, ended, self._limits)
            await _read(connection, book, batch)
            decisions = [book.decide(d) if d.session_id in ledgers else None for d in batch]
            await _write(connection, book)
        for ledger in book.changed:
            self._wakeups.hint(ledger.session_id)

        def outcome(deposit: Deposit, decision: Kept | SparkError | None) -> _Decided | None:
            match decision:
                case Kept(interrupt_id, duplicate):
                    return Deposited(book.interrupts[interrupt_id], duplicate)
                case SparkError():
                    return decision
                case None:
                    return None if deposit.session_id in there else SessionNotFound(deposit.session_id)

        return [outcome(*pair) for pair in zip(batch, decisions, strict=True)]


def _by_now(outcome: _Decided | _Waiting | Exception) -> _Decided | Exception:
    """What is known of a deposit, which may still wait."""
    if not isinstance(outcome, asyncio.Future):
        return outcome
    if not outcome.done():
        return Unavailable("somebody else has the row of the session; try again")
    return outcome.result()[0]


async def _lock(
    connection: Hot, batch: Sequence[Deposit], wait: bool
) -> tuple[dict[SessionId, Ledger], set[SessionId]]:
    """Take the sessions' rows in order, without `wait` only the free ones. Also gives which have ended."""
    session_ids = list({deposit.session_id for deposit in batch})
    rows = await connection.fetch(_LOCK if wait else f"{_LOCK} SKIP LOCKED", session_ids)
    ledgers = {ledger.session_id: ledger for ledger in map(opened, rows)}
    return ledgers, {row["session_id"] for row in rows if row["state"] == SessionState.ENDED.value}


async def _read(connection: Hot, book: Book, batch: Sequence[Deposit]) -> None:
    """Let the book know what decides about a batch."""
    if keys := {Key(deposit.session_id, deposit.source, deposit.request_id) for deposit in batch}:
        for row in await connection.fetch(_KNOWN, *zip(*keys, strict=True)):
            book.know(interrupt(row), get(row, "request_id", str), get(row, "digest", bytes))
    if asks := book.asks(batch):
        for row in await connection.fetch(_PENDING, asks):
            book.know_pending(row["session_id"], row["source"], row["coalesce_key"] or "", row["message_id"])


async def _write(connection: Hot, book: Book) -> None:
    """Write what the book decided."""
    if not book.new:
        return
    posted = [book.interrupts[interrupt_id].posted for interrupt_id, _ in book.new]
    await connection.execute(
        _INSERT,
        *_columns(book.new),
        [deposit.coalesce_key or None for _, deposit in book.new],
        [deposit.expire_time for _, deposit in book.new],
        [fact.time for fact in posted],
        [fact.revision for fact in posted],
    )
    await close(connection, book.changed)


def _columns(new: Sequence[tuple[MessageId, Deposit]]) -> Sequence[Sequence[object]]:
    """A list for each of the columns."""
    bodies = [_body(deposit.body) for _, deposit in new]
    return (
        [deposit.session_id for _, deposit in new],
        [interrupt_id for interrupt_id, _ in new],
        [deposit.source for _, deposit in new],
        [deposit.principal for _, deposit in new],
        [body.text for body in bodies],
        [body.notification_type for body in bodies],
        [body.subject for body in bodies],
        [body.data_json for body in bodies],
        [deposit.delivery.value for _, deposit in new],
        [deposit.request_id for _, deposit in new],
        [deposit.digest for _, deposit in new],
        [deposit.hops for _, deposit in new],
    )


class _Body(NamedTuple):
    text: str
    notification_type: str | None = None
    subject: str | None = None
    data_json: str | None = None


def _body(body: Nudge | Notification) -> _Body:
    match body:
        case Nudge(text):
            return _Body(text)
        case Notification(kind, subject, text, data_json):
            return _Body(text, kind, subject, data_json)
        case unreachable:
            assert_never(unreachable)
