"""What is due is done in time: invariant 8."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from itertools import accumulate, zip_longest

from tests.torture.checker.evidence import Finding, Session, Stream, call_key
from tests.torture.checker.records import Run

_OF_HINTS = ("drop-signals", "listener-kill")


def after_calm_everything_is_seen_in_time(session: Session) -> Iterator[Finding]:
    """Within a poll, two leases and one model call, not counting the time that the session's own models took
    and that a failed round was told to wait. Of other models than the scripted one that time is not known."""
    if session.row.state != "active" or not session.is_scripted:
        return
    bound = _bound_seconds(session.run)
    begins = _calm_for(session)
    busy = _Busy(session)
    for row in session.interrupts:
        done_at = row.seen_at or row.settled_at
        waited = busy.idle_between(max(begins, row.posted_at), done_at or session.end_at)
        if waited > bound:
            yield f"{row} was left waiting for {waited:.1f} s", f"{bound:.1f} s are allowed, seen: {done_at}"


def streams_tell_in_time(session: Session) -> Iterator[Finding]:
    """While nothing befalls anybody but that hints are lost: a poll stands behind them."""
    bound = _bound_seconds(session.run)
    times = {event.revision: event.create_time for event in session.events}
    faults = sorted((fault.began, fault.at) for fault in session.faults if fault.kind not in _OF_HINTS)
    begins, ends = [begin for begin, _ in faults], [0.0, *accumulate((end for _, end in faults), max)]
    for stream in session.streams:
        for revision, told_at in _told(stream, session.end_at):
            undone_at = ends[bisect_right(begins, told_at)]
            since = max(undone_at, stream.opened.at, times.get(revision, told_at))
            if told_at - since > bound:
                yield f"{stream} has not shown revision {revision} in time", f"by {told_at:.3f}"


def _told(stream: Stream, end_at: float) -> Iterator[tuple[int, float]]:
    """The oldest revision of each piece, and when it was heard. What never came was waited for to the end."""
    cursor = stream.opened.request.after_revision
    for response, at in zip(stream.responses, stream.heard_at, strict=True):
        if response.last_revision > cursor:
            yield cursor + 1, at
            cursor = response.last_revision
    yield cursor + 1, min(stream.closed_at or end_at, end_at)


def a_wait_ends_with_an_interrupt_or_in_its_time(session: Session) -> Iterator[Finding]:
    """Or with the session. An interrupt stands right behind the response that tells of it."""
    rows, ended = session.transcript, session.end_began_at_revision or session.row.revision + 1
    deadlines = {call_key(row): row.deadline for row in rows if row.deadline}
    for row, behind in zip_longest(rows, rows[1:]):
        deadline = deadlines.get(call_key(row)) if row.type == "tool_response" else None
        is_early = deadline and row.posted_at < deadline and row.posted_revision < ended
        if is_early and (behind is None or behind.delivered_at != row.posted_at):
            yield f"{row} ends a wait before its time", f"what follows is {behind}"


def _bound_seconds(run: Run) -> float:
    """A poll, two leases and one model call."""
    return run.poll_seconds + 2 * run.lease_seconds + run.model_seconds


def _calm_for(session: Session) -> float:
    """When nothing held it up any longer."""
    changes = [event.create_time for event in session.of_type("session_changed")]
    pauses = [event.told.retry_time or 0 for event in session.of_type("round_failed")]
    return max([session.calm_at, *changes, *pauses])


class _Busy:
    """When the session's requests were in flight."""

    def __init__(self, session: Session) -> None:
        spans: list[tuple[float, float]] = []
        for asked in session.asked:
            if spans and asked.began <= spans[-1][1]:
                spans[-1] = spans[-1][0], max(spans[-1][1], asked.at)
            else:
                spans.append((asked.began, asked.at))
        self._spans = spans
        self._ends = [end for _, end in spans]
        self._sums = [0.0, *accumulate(end - start for start, end in spans)]

    def idle_between(self, start: float, end: float) -> float:
        return max(0.0, end - start - (self._before(end) - self._before(start)))

    def _before(self, time: float) -> float:
        """How long they were in flight up to a time."""
        n = bisect_left(self._ends, time)
        begun = max(0.0, time - self._spans[n][0]) if n < len(self._spans) else 0.0
        return self._sums[n] + begun
