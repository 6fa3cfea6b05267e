"""What a batch of deposits comes to. Pure: from what was read under the locks to what is to be written."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from agent_service.domain import (
    Deposit,
    EventType,
    Fact,
    Interrupt,
    InterruptState,
    MessageId,
    SessionId,
    new_id,
)
from agent_service.errors import (
    InvalidField,
    RequestIdReused,
    SessionEnded,
    SparkError,
    TooManyPending,
    Violation,
)
from agent_service.settings import Limits
from agent_service.store.ledger import Ledger


class Key(NamedTuple):
    """What makes a deposit the same as another."""

    session_id: SessionId
    source: str
    request_id: str


@dataclass(frozen=True, slots=True)
class Kept:
    """The interrupt is in the database, or will be with this commit."""

    interrupt_id: MessageId
    duplicate: bool


class Book:
    """Knows the sessions whose rows are locked and what was read of them, and decides deposits in order.

    `interrupts` are those spoken of, as they will be after the commit; `new` those to be written.
    """

    def __init__(
        self, ledgers: Mapping[SessionId, Ledger], ended: Collection[SessionId], limits: Limits
    ) -> None:
        self.interrupts: dict[MessageId, Interrupt] = {}
        self.new: list[tuple[MessageId, Deposit]] = []
        self._ledgers, self._ended, self._limits = ledgers, ended, limits
        self._known: dict[Key, tuple[MessageId, bytes]] = {}
        self._pending_of_session: Counter[SessionId] = Counter()
        self._pending_of_source: Counter[tuple[SessionId, str]] = Counter()
        self._pending_by_key: dict[tuple[SessionId, str, str], MessageId] = {}

    @property
    def changed(self) -> list[Ledger]:
        return [ledger for ledger in self._ledgers.values() if ledger.events]

    def know(self, deposited: Interrupt, request_id: str, digest: bytes) -> None:
        """Remember what was deposited under a request id."""
        key = Key(deposited.session_id, deposited.source, request_id)
        self._known[key] = deposited.interrupt_id, digest
        self.interrupts[deposited.interrupt_id] = deposited

    def know_pending(
        self, session_id: SessionId, source: str, coalesce_key: str, interrupt_id: MessageId
    ) -> None:
        """Remember what is pending. Needed only for sessions that `asks` names."""
        self._pending_of_session[session_id] += 1
        self._pending_of_source[session_id, source] += 1
        if coalesce_key:
            self._pending_by_key[session_id, source, coalesce_key] = interrupt_id

    def asks(self, batch: Collection[Deposit]) -> list[SessionId]:
        """The sessions whose pending interrupts matter: a key may replace one, or they may be too many."""
        least = min(self._limits.max_pending, self._limits.max_pending_per_source)
        keyed = {deposit.session_id for deposit in batch if deposit.coalesce_key}
        new = Counter(deposit.session_id for deposit in batch)
        return [
            session_id
            for session_id, ledger in self._ledgers.items()
            if session_id in keyed or ledger.outstanding + new[session_id] > least
        ]

    def decide(self, deposit: Deposit) -> Kept | SparkError:
        """Take a deposit in, or say why not. The duplicate comes before everything that depends on time or
        state, so that a retry of an acknowledged post is never refused."""
        if known := self._known.get(Key(deposit.session_id, deposit.source, deposit.request_id)):
            interrupt_id, digest = known
            if digest != deposit.digest:
                return RequestIdReused(deposit.request_id)
            return Kept(interrupt_id, duplicate=True)
        ledger = self._ledgers[deposit.session_id]
        return self._refusal(deposit, ledger) or self._take(deposit, ledger)

    def _refusal(self, deposit: Deposit, ledger: Ledger) -> SparkError | None:
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

    def _take(self, deposit: Deposit, ledger: Ledger) -> Kept:
        if old := self._superseded(deposit):
            self._supersede(old, deposit, ledger)
        interrupt_id = MessageId(new_id())
        fresh = deposited(interrupt_id, deposit, ledger.record(EventType.INTERRUPT_POSTED, interrupt_id))
        ledger.outstanding += 1
        self.know(fresh, deposit.request_id, deposit.digest)
        self.know_pending(deposit.session_id, deposit.source, deposit.coalesce_key, interrupt_id)
        self.new.append((interrupt_id, deposit))
        return Kept(interrupt_id, duplicate=False)

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


def deposited(interrupt_id: MessageId, deposit: Deposit, posted: Fact) -> Interrupt:
    """The interrupt that a deposit becomes."""
    return Interrupt(
        interrupt_id,
        deposit.session_id,
        deposit.source,
        deposit.principal,
        deposit.body,
        deposit.delivery,
        deposit.coalesce_key,
        deposit.expire_time,
        posted,
    )
