"""What holds of a session as a whole: invariants 7 and 10."""

from collections.abc import Iterator

from tests.torture.checker.evidence import Finding, Session


def revisions_count_the_events(session: Session) -> Iterator[Finding]:
    revisions = [event.revision for event in session.events]
    if revisions != list(range(1, session.row.revision + 1)):
        gaps = set(range(1, session.row.revision + 1)) ^ set(revisions)
        yield f"the events are not those up to revision {session.row.revision}", sorted(gaps) or "doubles"
    times = [event.create_time for event in session.events]
    if times != sorted(times):
        yield "revisions are not in the order of time", times


def every_row_has_its_event(session: Session) -> Iterator[Finding]:
    kinds = {"system": "interrupt_posted", "summary": "compacted"}
    told = {(event.type, event.message_id, event.revision) for event in session.events}
    for row in session.messages:
        kind = kinds.get(row.type, "message_appended")
        if (kind, row.message_id, row.posted_revision) not in told:
            yield f"{row} is of revision {row.posted_revision}", f"no {kind} tells of it"


def nothing_follows_the_end(session: Session) -> Iterator[Finding]:
    if session.row.state != "ended":
        return
    if not session.events or session.events[-1].told.state != "ended":
        yield "the session has ended", f"its last event is {session.events[-1] if session.events else None}"
    if session.row.turn_open or session.row.lease_owner:
        yield "the session has ended", "its turn is open, or somebody holds it"
    if outstanding := [row for row in session.interrupts if not row.seen_at and not row.settled_at]:
        yield "the session has ended", f"{[*map(str, outstanding)]} are outstanding"


def who_was_told_of_the_end_finds_it_so(session: Session) -> Iterator[Finding]:
    """Whatever begins after the answer finds the session ended."""
    answers = [call.at for call in session.calls if call.method == "EndSession" and call.answer]
    if not answers:
        return
    ended_at = min(answers)
    if session.row.state != "ended":
        yield f"its end was acknowledged at {ended_at:.3f}", f"it is {session.row.state}"
    for event in session.events:
        if event.create_time > ended_at:
            yield f"{event} follows the end", f"which was acknowledged at {ended_at:.3f}"
    for post in session.posts:
        if post.began > ended_at and post.told and not post.duplicate:
            yield f"{post} was taken after the end", f"which was acknowledged at {ended_at:.3f}"


def who_is_stopped_starts_nothing(session: Session) -> Iterator[Finding]:
    """A paused or failed session delivers nothing and begins neither turns nor rounds."""
    state = "active"
    for event in session.events:
        if event.type == "session_changed":
            state = event.told.state
        elif state != "active" and event.type in ("turn_started", "round_started", "interrupt_delivered"):
            yield f"{event} is told of a session that is {state}", event.create_time
