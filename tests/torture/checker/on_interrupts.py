"""What becomes of interrupts, but for their delivery: invariants 2, 5, 8 and 10."""

from collections import Counter
from collections.abc import Iterator, Sequence

from tests.torture.checker.evidence import Asker, Finding, Session
from tests.torture.checker.rows import REPLIES, EventRow, MessageRow


def each_fact_is_told_once(session: Session) -> Iterator[Finding]:
    told = Counter((event.type, event.message_id) for event in session.events)
    told_then = {(event.type, event.message_id, event.revision) for event in session.events}
    for row in session.interrupts:
        for fact, revision in (
            ("interrupt_posted", row.posted_revision),
            ("interrupt_delivered", row.delivered_revision),
            ("interrupt_seen", row.seen_revision),
            ("interrupt_settled", row.settled_revision),
        ):
            times = told[fact, row.message_id]
            if times != (revision is not None) or (
                times and (fact, row.message_id, revision) not in told_then
            ):
                yield f"{fact} of {row} is told {times} times", f"its row says revision {revision}"


def facts_follow_each_other(session: Session) -> Iterator[Finding]:
    for row in session.interrupts:
        facts = (row.posted_revision, row.delivered_revision, row.seen_revision or row.settled_revision)
        revisions = [revision for revision in facts if revision is not None]
        if revisions != sorted(revisions) or (row.seen_revision and not row.delivered_revision):
            yield f"the facts about {row} are in the wrong order", facts
        if row.seen_revision and row.settled_revision:
            yield f"{row} was seen and {row.settled_as}", facts
        if (row.position is None) != (row.delivered_revision is None):
            yield f"{row} has no place that fits its delivery", facts


def an_interrupt_is_posted_once(session: Session) -> Iterator[Finding]:
    counts = Counter(row.key for row in session.interrupts if row.request_id)
    yield from ((f"{key} is there {count} times", key) for key, count in counts.items() if count > 1)


# ---- seen


def seen_is_what_a_model_has_begun_to_answer(session: Session) -> Iterator[Finding]:
    """A first chunk of the agent's reply was on its way before."""
    if not session.is_scripted:
        return
    earliest: dict[int, float] = {}
    for shown in session.shown_to(Asker.AGENT):
        if shown.asked.chunks:
            earliest[shown.through] = min(shown.first_at, earliest.get(shown.through, float("inf")))
    first = float("inf")
    for row in reversed(session.transcript):
        first = min(first, earliest.get(row.place, float("inf")))
        if row.seen_at is not None and row.seen_at < min(first, session.end_at):
            yield f"{row} is seen at {row.seen_at:.3f}", f"its first answer began at {first:.3f}"


def what_is_answered_was_seen_before(session: Session) -> Iterator[Finding]:
    unanswered: list[MessageRow] = []
    for row in session.transcript:
        if row.type == "system":
            unanswered.append(row)
        elif row.type in REPLIES:
            for late in unanswered:
                if (late.seen_revision or row.posted_revision) >= row.posted_revision:
                    yield f"{late} is answered by {row}", f"it is seen at revision {late.seen_revision}"
            unanswered.clear()


def seen_covers_all_that_was_shown(session: Session) -> Iterator[Finding]:
    unseen: set[str] = set()
    for events in session.transactions:
        unseen -= _about(events, "interrupt_seen") | _about(events, "interrupt_settled")
        if unseen and any(event.type == "interrupt_seen" for event in events):
            yield f"{events[0]} leaves out what was shown too", sorted(unseen)
        unseen |= _about(events, "interrupt_delivered")


def _about(events: Sequence[EventRow], kind: str) -> set[str]:
    return {event.message_id or "" for event in events if event.type == kind}


# ---- settled


def outstanding_is_counted(session: Session) -> Iterator[Finding]:
    count = sum(row.seen_at is None and row.settled_at is None for row in session.interrupts)
    if session.row.outstanding != count:
        yield f"outstanding says {session.row.outstanding}", f"{count} are"


def what_settles_has_a_cause(session: Session) -> Iterator[Finding]:
    """Somebody withdrew it, its time came, a later one took its place, or the session ended."""
    withdrawn = {call.request.interrupt_id for call in session.calls if call.method == "CancelInterrupt"}
    replacing = {(row.source, row.coalesce_key, row.posted_revision) for row in session.interrupts}
    ended = session.end_began_at_revision or session.row.revision + 1
    for row in session.interrupts:
        if row.settled_at is None or row.settled_revision is None:
            continue
        at_the_end = row.settled_revision >= ended
        causes = {
            "cancelled": at_the_end or row.message_id in withdrawn,
            "expired": row.expire_time is not None and row.expire_time <= row.settled_at,
            "superseded": bool(row.coalesce_key)
            and (row.source, row.coalesce_key, row.settled_revision + 1) in replacing,
        }
        if not causes.get(row.settled_as or ""):
            yield f"{row} was {row.settled_as} without a cause", f"revision {row.settled_revision}"
        if row.position and not at_the_end:
            yield f"{row} was {row.settled_as} after its delivery", f"revision {row.settled_revision}"
