"""A session as its holder reads it at a safe point, and what the safe point makes of it. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from agent_service.domain import (
    EventType,
    Interrupt,
    Message,
    NewMessage,
    Place,
    Placement,
    Portion,
    Session,
    SessionState,
)
from agent_service.store.ledger import Ledger
from agent_service.store.rows import session_fields
from agent_service.store.standing import Standing

# Says how many of those that are due, in their order, are delivered at once.
Admission = Callable[[Sequence[Interrupt]], Portion]


@dataclass(slots=True)
class Held:
    found: Standing
    render_version: int
    session: Session = field(init=False)
    place: Place = field(init=False)
    interrupted: bool = field(init=False)
    next_position: int = field(init=False)
    # Where interrupts go that are delivered here.
    placement: Placement = field(init=False)
    ledger: Ledger = field(init=False)
    rows: list[Message] = field(default_factory=list)
    delivered: list[Interrupt] = field(default_factory=list)

    def __post_init__(self) -> None:
        found = self.found
        self.session, self.place, self.interrupted = found.session, found.place, found.interrupted
        self.next_position, self.placement = found.next_position, found.placement
        self.ledger = Ledger(found.session.session_id, found.now, found.session.revision, found.outstanding)

    @property
    def active(self) -> bool:
        return self.session.state is SessionState.ACTIVE

    def append(self, row: NewMessage) -> None:
        self.rows.append(self.ledger.append(row, self.next_position, self.place))
        self.next_position += 1

    def stop_at_limit(self, new_turn: bool = False, new_round: bool = False) -> bool:
        """Pause the session if it has reached a limit of its present configuration."""
        config = self.session.config
        if new_turn and 0 < config.max_turns <= self.place.turn:
            reached = f"max_turns, {config.max_turns}"
        elif 0 < config.token_budget <= self.found.tokens:
            reached = f"token_budget, {config.token_budget}"
        elif new_round and 0 < config.max_rounds_per_turn <= self.found.rounds:
            reached = f"max_rounds_per_turn, {config.max_rounds_per_turn}"
        else:
            return False
        self.session = replace(
            self.session, state=SessionState.PAUSED, state_reason=f"limit reached: {reached}"
        )
        self.ledger.record(EventType.SESSION_CHANGED, data=session_fields(self.session))
        return True

    def take_due(self) -> list[Interrupt]:
        """What is due here. The expired is settled on the way."""
        found = []
        for pending in self.found.waiting:
            if pending.expire_time and pending.expire_time <= self.ledger.now:
                self.ledger.expire(pending.interrupt_id)
            else:
                found.append(pending)
        return found

    def deliver(self, waiting: Sequence[Interrupt], admit: Admission) -> None:
        """Give as many as are admitted their positions: the rows become part of the transcript."""
        if not waiting:
            return
        portion = admit(waiting)
        left = len(waiting) - portion.count + self.found.unread
        self.delivered = [
            replace(
                pending,
                delivered=self.ledger.record(EventType.INTERRUPT_DELIVERED, pending.interrupt_id),
                position=self.next_position + n,
                turn=self.place.turn,
                round=self.place.round,
                placement=self.placement,
                render_version=self.render_version,
                shown_bytes=portion.shown_bytes,
                # The last one tells of the others.
                left_waiting=left if n == portion.count - 1 else 0,
            )
            for n, pending in enumerate(waiting[: portion.count])
        ]
        self.next_position += len(self.delivered)
        self.rows.extend(Message.of(row) for row in self.delivered)
