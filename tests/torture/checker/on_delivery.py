"""When interrupts are delivered, and which of those that wait: invariant 2."""

from collections import deque
from collections.abc import Iterator, Sequence

from tests.torture.checker.evidence import Finding, Session
from tests.torture.checker.rows import REPLIES, MessageRow


class _Waiting:
    """What is pending at some revision, in the order of the deposits."""

    def __init__(self) -> None:
        self._of_round: deque[MessageRow] = deque()
        self._of_turn: deque[MessageRow] = deque()
        self._pending: set[str] = set()
        self._count_of_turn = 0

    def is_posted(self, row: MessageRow) -> None:
        self._pending.add(row.message_id)
        self._count_of_turn += row.delivery == "next_turn"
        (self._of_turn if row.delivery == "next_turn" else self._of_round).append(row)

    def leaves(self, row: MessageRow) -> None:
        if row.message_id in self._pending:
            self._pending.remove(row.message_id)
            self._count_of_turn -= row.delivery == "next_turn"

    def count(self, of_turn: bool) -> int:
        return len(self._pending) - (0 if of_turn else self._count_of_turn)

    def next(self, of_turn: bool) -> MessageRow | None:
        queues = (self._of_round, self._of_turn) if of_turn else (self._of_round,)
        for queue in queues:
            while queue and queue[0].message_id not in self._pending:
                queue.popleft()
        return min((queue[0] for queue in queues if queue), key=lambda row: row.posted_revision, default=None)


def those_due_are_delivered_in_order(session: Session) -> Iterator[Finding]:
    """In portions, of which the last one says how many wait; one at least where all are answered."""
    waiting, is_answered = _Waiting(), True
    for events in session.transactions:
        kinds = {event.type for event in events}
        of_turn = "round_started" not in kinds
        delivered: list[MessageRow] = []
        for event in events:
            row = session.by_id.get(event.message_id or "")
            if row is None:
                continue
            if event.type == "interrupt_posted":
                waiting.is_posted(row)
            elif event.type == "interrupt_settled":
                waiting.leaves(row)
            elif event.type == "interrupt_delivered":
                if waiting.next(of_turn) is not row:
                    yield f"{row} is delivered where {waiting.next(of_turn)} is due", event
                waiting.leaves(row)
                delivered.append(row)
            elif event.type == "message_appended" and row.type in REPLIES:
                is_answered = True
        if kinds & {"turn_started", "round_started", "interrupt_delivered"}:
            left = waiting.count(of_turn)
            if left and not delivered and is_answered:
                yield f"none of {left} that wait is delivered at {events[-1]}", waiting.next(of_turn)
            yield from _tells_of(delivered, left)
        is_answered = is_answered and not delivered


def _tells_of(delivered: Sequence[MessageRow], left: int) -> Iterator[Finding]:
    counts = [0] * (len(delivered) - 1) + [left]
    for row, count in zip(delivered, counts, strict=False):
        if (row.left_waiting or 0) != count:
            yield f"{row} says that {row.left_waiting} wait", f"{count} do"
