"""A message from outside: what it says, and the facts of its way to the model."""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum

from agent_service.domain.ids import MessageId, SessionId


class Delivery(Enum):
    NEXT_ROUND = "next_round"
    NEXT_TURN = "next_turn"
    IMMEDIATE = "immediate"


class InterruptState(Enum):
    PENDING = "pending"
    DELIVERED = "delivered"
    SEEN = "seen"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    SUPERSEDED = "superseded"

    @property
    def final(self) -> bool:
        return self not in (InterruptState.PENDING, InterruptState.DELIVERED)


class Placement(Enum):
    """Where an interrupt goes in a request, from the most authority to what every server takes. Stored with
    the row when it is delivered."""

    # A system message in its place.
    SYSTEM = "system"
    # A message of the user, joined with one beside it.
    USER = "user"
    # The end of the last tool's response; without one, as the user's.
    TOOL = "tool"
    # The whole conversation is text, in which user and assistant alternate; no tools are offered.
    TEXT = "text"

    @property
    def lower(self) -> "tuple[Placement, ...]":
        """The places with less authority, the next one first."""
        order = tuple(Placement)
        return order[order.index(self) + 1 :]


@dataclass(frozen=True, slots=True)
class Nudge:
    """An instruction."""

    text: str


@dataclass(frozen=True, slots=True)
class Notification:
    """A fact; `data_json` is a JSON object in canonical form, or empty."""

    type: str
    subject: str = ""
    text: str = ""
    data_json: str = ""


@dataclass(frozen=True, slots=True)
class Deposit:
    """A checked interrupt on its way into the database. The digest covers body, delivery, key and expiry."""

    session_id: SessionId
    source: str
    principal: str
    body: Nudge | Notification
    delivery: Delivery
    coalesce_key: str
    expire_time: datetime | None
    request_id: str
    digest: bytes
    # How many agents have passed it on, one to the next; 0 from outside.
    hops: int = 0


@dataclass(frozen=True, slots=True)
class Fact:
    """Something that became true, and when: by the clock and by the session's revision."""

    time: datetime
    revision: int


@dataclass(frozen=True, slots=True)
class Settlement:
    fact: Fact
    state: InterruptState
    reason: str


@dataclass(frozen=True, slots=True)
class Interrupt:
    interrupt_id: MessageId
    session_id: SessionId
    source: str
    principal: str
    body: Nudge | Notification
    delivery: Delivery
    coalesce_key: str
    expire_time: datetime | None
    posted: Fact
    delivered: Fact | None = None
    seen: Fact | None = None
    settled: Settlement | None = None
    position: int = 0
    turn: int = 0
    round: int = 0
    placement: Placement = Placement.SYSTEM
    render_version: int = 0
    # How much of it is shown (0: all), and how many more were due and did not fit.
    shown_bytes: int = 0
    left_waiting: int = 0

    @property
    def state(self) -> InterruptState:
        if self.settled:
            return self.settled.state
        if self.seen:
            return InterruptState.SEEN
        return InterruptState.DELIVERED if self.delivered else InterruptState.PENDING

    def as_of(self, revision: int) -> "Interrupt":
        """The interrupt as it was at a revision: later facts are taken away again."""

        def known(fact: Fact | None) -> Fact | None:
            return fact if fact and fact.revision <= revision else None

        then = replace(
            self,
            seen=known(self.seen),
            settled=self.settled if self.settled and known(self.settled.fact) else None,
        )
        if known(self.delivered):
            return then
        # What the delivery gave it, it did not have before.
        return replace(
            then,
            delivered=None,
            position=0,
            turn=0,
            round=0,
            placement=Placement.SYSTEM,
            render_version=0,
            shown_bytes=0,
            left_waiting=0,
        )


@dataclass(frozen=True, slots=True)
class Portion:
    """How many of the interrupts that are due, in their order, are delivered at once. One that is too long by
    itself is shown up to so many bytes (0: all are shown whole)."""

    count: int
    shown_bytes: int = 0
