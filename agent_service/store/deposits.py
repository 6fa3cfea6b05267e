"""Deposits: the commit that an acknowledgement stands for.

A batch takes the rows of its sessions in order, and only those that nobody else has: a session whose row is
held delays its own posts and no others. It reads the messages in later statements, so that they are not older
than the locks.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import compress
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
from agent_service.errors import SessionNotFound, SparkError
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

_INSERT = """
INSERT INTO messages (session_id, message_id, type, source, principal, text, notification_type, subject,
                      data_json, delivery, coalesce_key, expire_time, request_id, digest,
                      hops, posted_at, posted_revision)
SELECT i.session_id, i.message_id, 'system', source, principal, text, notification_type, subject, data_json,
       delivery, coalesce_key, expire_time, request_id, digest, hops, posted_at, posted_revision
FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
            $9::text[], $10::text[], $11::timestamptz[], $12::text[], $13::bytea[], $14::int[],
            $15::timestamptz[], $16::bigint[])
     AS i (session_id, message_id, source, principal, text, notification_type, subject, data_json,
           delivery, coalesce_key, expire_time, request_id, digest, hops, posted_at, posted_revision)"""

# A lone deposit that cannot replace, expire or be one too many only appends. A request id used before breaks
# the unique index, and nothing of it happens.
_DEPOSIT_ALONE = """
WITH free AS (
    SELECT session_id FROM sessions WHERE session_id = $1 FOR NO KEY UPDATE SKIP LOCKED
), held AS (
    UPDATE sessions s SET revision = revision + 1, outstanding = outstanding + 1 FROM free
    WHERE s.session_id = free.session_id AND s.state <> 'ended' AND s.outstanding < $12
    RETURNING s.revision, clock_timestamp() AS now
), inserted AS (
    INSERT INTO messages (session_id, message_id, type, source, principal, text, notification_type, subject,
                          data_json, delivery, request_id, digest, hops, posted_at, posted_revision)
    SELECT $1, $2, 'system', $3, $4, $5, $6, $7, $8, $9, $10, $11, $13, now, revision FROM held
), recorded AS (
    INSERT INTO events (session_id, revision, create_time, type, message_id)
    SELECT $1, revision, now, 'interrupt_posted', $2 FROM held
)
SELECT now, revision FROM held"""


@dataclass(frozen=True, slots=True)
class Deposited:
    """The interrupt in its current state; a duplicate had been deposited before under its request id."""

    interrupt: Interrupt
    duplicate: bool


_Outcome: TypeAlias = Deposited | SparkError
# None: somebody else has the session's row, and nothing was decided.
_Outcomes: TypeAlias = Sequence[_Outcome | None]


class Deposits:
    """Deposits interrupts, those that arrive together in one transaction. To be entered before use.

    Posts to a session whose row somebody else holds wait for it in a room of their own: in one transaction,
    in their order, and only a few rooms at a time, so that other sessions find connections.
    """

    def __init__(self, database: Database, wakeups: Wakeups, limits: Limits) -> None:
        self._database, self._wakeups, self._limits = database, wakeups, limits
        self._tasks = asyncio.TaskGroup()
        self._group = GroupCommit(self._commit_together, MAX_GROUP, self._tasks, self._wait_for_row)
        self._rooms: dict[SessionId, GroupCommit[Deposit, _Outcome]] = {}
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
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    async def deposit_all(self, deposits: Iterable[Deposit]) -> Sequence[Deposited | BaseException]:
        """What `deposit` would return or raise, for each of several at once."""
        return await asyncio.gather(*map(self._submit, deposits), return_exceptions=True)

    def _submit(self, deposit: Deposit) -> asyncio.Future[_Outcome]:
        """Nobody goes past those who wait for the same row."""
        return self._rooms.get(deposit.session_id, self._group).submit(deposit)

    def _wait_for_row(self, deposit: Deposit, outcome: asyncio.Future[_Outcome]) -> None:
        self._room(deposit.session_id).take(deposit, outcome)

    def _room(self, session_id: SessionId) -> GroupCommit[Deposit, _Outcome]:
        """Where posts wait for the session's row. It is left as soon as nobody waits."""
        if session_id not in self._rooms:
            leave = partial(self._rooms.pop, session_id, None)
            self._rooms[session_id] = GroupCommit(
                self._commit_waiting, MAX_GROUP, self._tasks, self._wait_for_row, leave
            )
        return self._rooms[session_id]

    async def _commit_waiting(self, room: Sequence[Deposit]) -> _Outcomes:
        pause_seconds = 0.002
        while self._waiting.locked():
            # As many wait for rows as may: see whether this row is free, now and then.
            outcomes = await self._commit_batch(room, wait=False)
            if None not in outcomes:
                return outcomes
            await asyncio.sleep(pause_seconds)
            pause_seconds = min(2 * pause_seconds, 0.1)
        async with self._waiting:
            return await self._commit_batch(room, wait=True)

    async def _commit_together(self, group: Sequence[Deposit]) -> _Outcomes:
        """A group may hold posts to sessions for which earlier ones wait by now: they go after them."""
        is_free = [deposit.session_id not in self._rooms for deposit in group]
        outcomes = iter(await self._commit_free(list(compress(group, is_free))))
        return [next(outcomes) if free else None for free in is_free]

    async def _commit_free(self, group: Sequence[Deposit]) -> _Outcomes:
        if len(group) == 1 and (deposited := await self._commit_alone(group[0])):
            return [deposited]
        return await self._commit_batch(group, wait=False) if group else ()

    async def _commit_alone(self, deposit: Deposit) -> Deposited | None:
        """The short way, in one statement. None where a closer look is needed."""
        if deposit.coalesce_key or deposit.expire_time:
            return None
        interrupt_id = MessageId(new_id())
        least = min(self._limits.max_pending, self._limits.max_pending_per_source)
        body = _columns(deposit.body)
        try:
            async with self._database.connection() as connection:
                row = await connection.fetchrow(
                    _DEPOSIT_ALONE,
                    deposit.session_id,
                    interrupt_id,
                    deposit.source,
                    deposit.principal,
                    *body,
                    deposit.delivery.value,
                    deposit.request_id,
                    deposit.digest,
                    least,
                    deposit.hops,
                )
        except asyncpg.UniqueViolationError:
            return None
        if row is None:
            return None
        self._wakeups.hint(deposit.session_id)
        posted = Fact(get(row, "now", datetime), get(row, "revision", int))
        return Deposited(deposited(interrupt_id, deposit, posted), duplicate=False)

    async def _commit_batch(self, batch: Sequence[Deposit], wait: bool) -> _Outcomes:
        try:
            return await self._commit_once(batch, wait)
        except asyncpg.UniqueViolationError:
            # The batch knew less than the database does by now: a fresh look finds the duplicate.
            return await self._commit_once(batch, wait)

    async def _commit_once(self, batch: Sequence[Deposit], wait: bool) -> _Outcomes:
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

        def outcome(deposit: Deposit, decision: Kept | SparkError | None) -> _Outcome | None:
            match decision:
                case Kept(interrupt_id, duplicate):
                    return Deposited(book.interrupts[interrupt_id], duplicate)
                case SparkError():
                    return decision
                case None:
                    return None if deposit.session_id in there else SessionNotFound(deposit.session_id)

        return [outcome(*pair) for pair in zip(batch, decisions, strict=True)]


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
    new = [(book.interrupts[interrupt_id], deposit) for interrupt_id, deposit in book.new]
    bodies = [_columns(row.body) for row, _ in new]
    await connection.execute(
        _INSERT,
        [row.session_id for row, _ in new],
        [row.interrupt_id for row, _ in new],
        [row.source for row, _ in new],
        [row.principal for row, _ in new],
        [body.text for body in bodies],
        [body.notification_type for body in bodies],
        [body.subject for body in bodies],
        [body.data_json for body in bodies],
        [row.delivery.value for row, _ in new],
        [row.coalesce_key or None for row, _ in new],
        [row.expire_time for row, _ in new],
        [deposit.request_id for _, deposit in new],
        [deposit.digest for _, deposit in new],
        [deposit.hops for _, deposit in new],
        [row.posted.time for row, _ in new],
        [row.posted.revision for row, _ in new],
    )
    await close(connection, book.changed)


class _Columns(NamedTuple):
    text: str
    notification_type: str | None = None
    subject: str | None = None
    data_json: str | None = None


def _columns(body: Nudge | Notification) -> _Columns:
    match body:
        case Nudge(text):
            return _Columns(text)
        case Notification(kind, subject, text, data_json):
            return _Columns(text, kind, subject, data_json)
        case unreachable:
            assert_never(unreachable)
