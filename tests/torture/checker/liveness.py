"""What is due is done in time: invariant 8."""

from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate

from tests.torture.checker.evidence import Finding, Session


def after_calm_everything_is_seen_in_time(session: Session) -> Iterator[Finding]:
    """Within a poll, two leases and one model call, not counting the time that the session's own models took
    and that a failed round was told to wait. Of other models than the scripted one that time is not known."""
    if session.row.state != "active" or not session.is_scripted:
        return
    run = session.run
    bound = run.poll_seconds + 2 * run.lease_seconds + run.model_seconds
    begins = _calm_for(session)
    busy = _Busy(session)
    for row in session.interrupts:
        done_at = row.seen_at or row.settled_at
        waited = busy.idle_between(max(begins, row.posted_at), done_at or session.end_at)
        if waited > bound:
            yield f"{row} was left waiting for {waited:.1f} s", f"{bound:.1f} s are allowed, seen: {done_at}"


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
