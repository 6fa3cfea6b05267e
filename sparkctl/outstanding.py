"""Interrupts on their way to the model, as a watcher sees them: pending, delivered, then seen or settled."""

from datetime import datetime, tzinfo

from spark.agent.v1.interrupt_pb2 import Delivery, Interrupt, InterruptState
from sparkctl.rows import Row, Tone
from sparkctl.words import age, brief, clock, cut, speech, state

_MAX_SHOWN = 6


class Outstanding:
    """Holds what is neither seen nor settled. Each method for a fact returns what to print."""

    def __init__(self, zone: tzinfo | None) -> None:
        self._zone = zone
        self._interrupts: dict[str, Interrupt] = {}

    def waiting(self, interrupt: Interrupt) -> Row:
        """For one that is pending or delivered already."""
        if interrupt.state == InterruptState.INTERRUPT_STATE_DELIVERED:
            return self.delivered(interrupt)
        return self.posted(interrupt)

    def posted(self, interrupt: Interrupt) -> Row:
        self._interrupts[interrupt.interrupt_id] = interrupt
        posted = clock(interrupt.create_time, self._zone)
        return Row(Tone.PENDING, "pending", f"{cut(speech(interrupt))} ({posted}, {_due(interrupt)})")

    def delivered(self, interrupt: Interrupt) -> Row:
        self._interrupts[interrupt.interrupt_id] = interrupt
        posted, delivered = (
            clock(interrupt.create_time, self._zone),
            clock(interrupt.deliver_time, self._zone),
        )
        times = f"(at {delivered}, posted at {posted})"
        return Row(Tone.DELIVERED, "delivered", f"{cut(speech(interrupt))} {times}")

    def seen(self, interrupt: Interrupt) -> Row:
        self._interrupts.pop(interrupt.interrupt_id, None)
        seen = clock(interrupt.seen_time, self._zone)
        return Row(Tone.SEEN, "seen", f"seen by the model at {seen} · {brief(speech(interrupt))}")

    def settled(self, interrupt: Interrupt) -> Row:
        self._interrupts.pop(interrupt.interrupt_id, None)
        reason = f": {brief(interrupt.settle_reason)}" if interrupt.settle_reason else ""
        settled = clock(interrupt.settle_time, self._zone)
        return Row(Tone.SETTLED, state(interrupt), f"{brief(speech(interrupt))} (at {settled}{reason})")

    def rows(self, now: datetime) -> list[Row]:
        """What waits, the oldest first."""
        waiting = list(self._interrupts.values())
        rows = [self._waiting(interrupt, now) for interrupt in waiting[:_MAX_SHOWN]]
        if more := len(waiting) - len(rows):
            rows.append(Row(Tone.PENDING, "", f"and {more} more"))
        return rows

    def _waiting(self, interrupt: Interrupt, now: datetime) -> Row:
        what = brief(speech(interrupt))
        if interrupt.state == InterruptState.INTERRUPT_STATE_DELIVERED:
            delivered = clock(interrupt.deliver_time, self._zone)
            return Row(Tone.DELIVERED, "delivered", f"{what} (at {delivered}, not yet seen)")
        waited = age(interrupt.create_time, now)
        return Row(Tone.PENDING, "pending", f"{what} (for {waited}, {_due(interrupt)})")


def _due(interrupt: Interrupt) -> str:
    match interrupt.delivery:
        case Delivery.DELIVERY_NEXT_TURN:
            return "due at the next turn"
        case Delivery.DELIVERY_IMMEDIATE:
            return "due at once"
        case _:
            return "due at the next round"
