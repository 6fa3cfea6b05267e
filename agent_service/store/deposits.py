"""Deposits: the commit that an acknowledgement stands for.

A batch takes the rows of its sessions in order, and only those that nobody else has: a session whose row is
held delays its own posts and no others. It reads the messages in later statements, so that they are not older
than the locks.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from typing import NamedTuple, TypeAlias

import asyncpg

from agent_service.domain import (
    Deposit,
    EventType,
    Interrupt,
    InterruptState,
    MessageId,
    Notification,
    Nudge,
    SessionId,
    SessionState,
    new_id,
)
from agent_service.errors import (
    InvalidField,
    RequestIdReused,
    SessionEnded,
    SessionNotFound,
    SparkError,
    TooManyPending,
    Violation,
)
from agent_service.settings import Limits
from agent_service.store.database import Database, Hot
from agent_service.store.group_commit import GroupCommit
from agent_service.store.ledger import Ledger, write
from agent_service.store.rows import MESSAGE_COLUMNS, get, interrupt
from agent_service.wakeups import Wakeups

MAX_GROUP = 500

_LOCK = """
SELECT session_id, state, revision, outstanding, clock_timestamp() AS now FROM sessions
WHERE session_id = ANY ($1::uuid[]) ORDER BY session_id FOR NO KEY UPDATE"""

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
                      posted_at, posted_revision)
SELECT i.session_id, i.message_id, 'system', source, principal, text, notification_type, subject, data_json,
       delivery, coalesce_key, expire_time, request_id, digest, posted_at, posted_revision
FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
            $9::text[], $10::text[], $11::timestamptz[], $12::text[], $13::bytea[], $14::timestamptz[],
            $15::bigint[])
     AS i (session_id, message_id, source, principal, text, notification_type, subject, data_json,
           delivery, coalesce_key, expire_time, request_id, digest, posted_at, posted_revision)"""

_ADVANCE = """
UPDATE sessions s SET revision = a.revision, outstanding = a.outstanding
FROM unnest($1::uuid[], $2::bigint[], $3::int[]) AS a (session_id, revision, outstanding)
WHERE s.session_id = a.session_id"""


@dataclass(frozen=True, slots=True)
class Deposited:
    """The interrupt in its current state; a duplicate had been deposited before under its request id."""

    interrupt: Interrupt
    duplicate: bool


class _Held(Enum):
    """Somebody else has the session's row: nothing was decided."""

    BY_ANOTHER = 0


_Outcome: TypeAlias = Deposited | SparkError | _Held


class _Key(NamedTuple):
    session_id: SessionId
    source: str
    request_id: str


class Deposits(GroupCommit[Deposit, _Outcome]):
    """Deposits interrupts, those that arrive together in one transaction. To be entered before use."""

    def __init__(self, database: Database, wakeups: Wakeups, limits: Limits) -> None:
        super().__init__(lambda batch: self._commit_batch(batch, wait=False), MAX_GROUP)
        self._database, self._wakeups, self._limits = database, wakeups, limits

    async def deposit(self, deposit: Deposit) -> Deposited:
        """Return after the commit. The same request id again gives the same interrupt, whatever became of it.

        Raises SessionNotFound, SessionEnded, RequestIdReused, TooManyPending, InvalidField for an expire time
        that has passed, and Unavailable when nobody knows whether the commit happened: then repeat it.
        """
        outcome = await self.submit(deposit)
        if isinstance(outcome, _Held):
            (outcome,) = await self._commit_batch([deposit], wait=True)
        if isinstance(outcome, SparkError):
            raise outcome
        assert isinstance(outcome, Deposited)
        return outcome

    async def _commit_batch(self, batch: Sequence[Deposit], wait: bool) -> Sequence[_Outcome]:
        try:
            return await self._commit_once(batch, wait)
        except asyncpg.UniqueViolationError:
            # The batch knew less than the database does by now: a fresh look finds the duplicate.
            return await self._commit_once(batch, wait)

    async def _commit_once(self, batch: Sequence[Deposit], wait: bool) -> Sequence[_Outcome]:
        async with self._database.transaction() as connection:
            book = await _open_book(connection, batch, self._limits, wait)
            decided = [book.decide(deposit) for deposit in batch]
            await book.close(connection)
        for session_id in book.changed:
            self._wakeups.hint(session_id)
        return [
            Deposited(book.interrupts[d.interrupt_id], d.duplicate) if isinstance(d, _Kept) else d
            for d in decided
        ]


@dataclass(frozen=True, slots=True)
class _Kept:
    """The interrupt is, or will be with this commit, in the database."""

    interrupt_id: MessageId
    duplicate: bool


class _Book:
    """What a batch knows of the sessions whose rows it has, and what it has decided so far."""

    def __init__(
        self, ledgers: dict[SessionId, Ledger], ended: set[SessionId], limits: Limits, waited: bool
    ) -> None:
        self.interrupts: dict[MessageId, Interrupt] = {}
        self._ledgers, self._ended, self._limits, self._waited = ledgers, ended, limits, waited
        self._known: dict[_Key, tuple[MessageId, bytes]] = {}
        self._pending_of_session: Counter[SessionId] = Counter()
        self._pending_of_source: Counter[tuple[SessionId, str]] = Counter()
        self._pending_by_key: dict[tuple[SessionId, str, str], MessageId] = {}
        self._new: list[tuple[MessageId, Deposit]] = []

    @property
    def changed(self) -> list[SessionId]:
        return [session_id for session_id, ledger in self._ledgers.items() if ledger.events]

    def know(self, deposited: Interrupt, request_id: str, digest: bytes) -> None:
        """Remember what was deposited under a request id."""
        key = _Key(deposited.session_id, deposited.source, request_id)
        self._known[key] = deposited.interrupt_id, digest
        self.interrupts[deposited.interrupt_id] = deposited

    def wait(self, session_id: SessionId, source: str, coalesce_key: str, interrupt_id: MessageId) -> None:
        """Remember what is pending."""
        self._pending_of_session[session_id] += 1
        self._pending_of_source[session_id, source] += 1
        if coalesce_key:
            self._pending_by_key[session_id, source, coalesce_key] = interrupt_id

    def decide(self, deposit: Deposit) -> _Kept | SparkError | _Held:
        """Take a deposit in, or say why not. The duplicate comes before everything that depends on time or
        state, so that a retry of an acknowledged post is never refused."""
        ledger = self._ledgers.get(deposit.session_id)
        if ledger is None:
            return SessionNotFound(deposit.session_id) if self._waited else _Held.BY_ANOTHER
        if known := self._known.get(_Key(deposit.session_id, deposit.source, deposit.request_id)):
            interrupt_id, digest = known
            if digest != deposit.digest:
                return RequestIdReused(deposit.request_id)
            return _Kept(interrupt_id, duplicate=True)
        return self._refuse(deposit, ledger) or self._take(deposit, ledger)

    def _refuse(self, deposit: Deposit, ledger: Ledger) -> SparkError | None:
        if deposit.session_id in self._ended:
            return SessionEnded(deposit.session_id)
        if deposit.expire_time and deposit.expire_time <= ledger.now:
            return InvalidField(Violation("interrupt.expire_time", "lies in the past"))
        replaces = 1 if self._superseded(deposit) else 0
        if self._pending_of_session[deposit.session_id] - replaces >= self._limits.max_pending:
            return TooManyPending("the session", "SPARK_MAX_PENDING", self._limits.max_pending)
        most = self._limits.max_pending_per_source
        if self._pending_of_source[deposit.session_id, deposit.source] - replaces >= most:
            return TooManyPending("the source", "SPARK_MAX_PENDING_PER_SOURCE", most)
        return None

    def _superseded(self, deposit: Deposit) -> MessageId | None:
        """The pending interrupt that this one replaces."""
        return self._pending_by_key.get((deposit.session_id, deposit.source, deposit.coalesce_key))

    def _supersede(self, old: MessageId, deposit: Deposit, ledger: Ledger) -> None:
        reason = "replaced by a later one with the same coalesce key"
        settlement = ledger.settle(old, InterruptState.SUPERSEDED, reason)
        self._pending_of_session[deposit.session_id] -= 1
        self._pending_of_source[deposit.session_id, deposit.source] -= 1
        if old in self.interrupts:
            self.interrupts[old] = replace(self.interrupts[old], settled=settlement)

    def _take(self, deposit: Deposit, ledger: Ledger) -> _Kept:
        if old := self._superseded(deposit):
            self._supersede(old, deposit, ledger)
        interrupt_id = MessageId(new_id())
        ledger.outstanding += 1
        fresh = Interrupt(
            interrupt_id,
            deposit.session_id,
            deposit.source,
            deposit.principal,
            deposit.body,
            deposit.delivery,
            deposit.coalesce_key,
            deposit.expire_time,
            ledger.record(EventType.INTERRUPT_POSTED, interrupt_id),
        )
        self.know(fresh, deposit.request_id, deposit.digest)
        self.wait(deposit.session_id, deposit.source, deposit.coalesce_key, interrupt_id)
        self._new.append((interrupt_id, deposit))
        return _Kept(interrupt_id, duplicate=False)

    async def close(self, connection: Hot) -> None:
        """Write what was decided."""
        if not self._new:
            return
        new = [(self.interrupts[interrupt_id], deposit) for interrupt_id, deposit in self._new]
        await connection.execute(
            _INSERT,
            [row.session_id for row, _ in new],
            [row.interrupt_id for row, _ in new],
            [row.source for row, _ in new],
            [row.principal for row, _ in new],
            [row.body.text for row, _ in new],
            [_notification(row.body).type if isinstance(row.body, Notification) else None for row, _ in new],
            [_notification(row.body).subject for row, _ in new],
            [_notification(row.body).data_json for row, _ in new],
            [row.delivery.value for row, _ in new],
            [row.coalesce_key or None for row, _ in new],
            [row.expire_time for row, _ in new],
            [deposit.request_id for _, deposit in new],
            [deposit.digest for _, deposit in new],
            [row.posted.time for row, _ in new],
            [row.posted.revision for row, _ in new],
        )
        changed = [self._ledgers[session_id] for session_id in self.changed]
        await write(connection, changed)
        await connection.execute(
            _ADVANCE,
            [ledger.session_id for ledger in changed],
            [ledger.revision for ledger in changed],
            [ledger.outstanding for ledger in changed],
        )


def _notification(body: Nudge | Notification) -> Notification:
    return body if isinstance(body, Notification) else Notification("")


async def _open_book(connection: Hot, batch: Sequence[Deposit], limits: Limits, wait: bool) -> _Book:
    """Lock the sessions of a batch and read what decides about it."""
    session_ids = list({deposit.session_id for deposit in batch})
    rows = await connection.fetch(_LOCK if wait else _LOCK + " SKIP LOCKED", session_ids)
    ledgers = {
        row["session_id"]: Ledger(
            row["session_id"],
            get(row, "now", datetime),
            get(row, "revision", int),
            get(row, "outstanding", int),
        )
        for row in rows
    }
    ended = {row["session_id"] for row in rows if row["state"] == SessionState.ENDED.value}
    book = _Book(ledgers, ended, limits, waited=wait)
    keys = {_Key(d.session_id, d.source, d.request_id) for d in batch if d.session_id in ledgers}
    for row in await connection.fetch(_KNOWN, *zip(*keys, strict=True)) if keys else ():
        book.know(interrupt(row), get(row, "request_id", str), get(row, "digest", bytes))
    if asks := _that_ask(batch, ledgers, limits):
        for row in await connection.fetch(_PENDING, asks):
            book.wait(row["session_id"], row["source"], row["coalesce_key"] or "", row["message_id"])
    return book


def _that_ask(batch: Sequence[Deposit], ledgers: dict[SessionId, Ledger], limits: Limits) -> list[SessionId]:
    """The sessions whose pending interrupts matter: a key may replace one, or they may be too many."""
    least = min(limits.max_pending, limits.max_pending_per_source)
    return list(
        {
            deposit.session_id
            for deposit in batch
            if (ledger := ledgers.get(deposit.session_id))
            and (deposit.coalesce_key or ledger.outstanding + len(batch) > least)
        }
    )
