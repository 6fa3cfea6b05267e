"""Whether a run has tried what it was meant to: one that has not proves nothing."""

from collections.abc import Iterator, Set

from tests.torture.checker.evidence import Evidence
from tests.torture.checker.rows import REPLIES

FAULTS = (
    *("kill", "freeze", "postgres-restart", "failover", "cut", "delay", "half-close", "drop-signals"),
    *("listener-kill", "clock-skew", "model-down", "tools-down"),
)
_SOURCES = ("operator", "user", "service", "cron", "webhook", "agent")
_DELIVERIES = ("next_round", "next_turn", "immediate")
_OUTCOMES = ("seen", "cancelled", "expired", "superseded")
_MODES = ("autonomous", "on_interrupt")


def missing(evidence: Evidence) -> Iterator[str]:
    """What never happened."""
    sessions = evidence.sessions
    interrupts = [row for session in sessions for row in session.interrupts]
    for session in sessions:
        if session.row.state == "active" and not any(row.type in REPLIES for row in session.transcript):
            yield f"no work of session {session.row.display_name}"
        if session.row.state == "active" and any(
            row.seen_at is None and row.settled_at is None for row in session.interrupts
        ):
            yield f"the end of what waits in session {session.row.display_name} was not waited for"
    yield from _lacks("fault", evidence.run.kinds or FAULTS, {fault.kind for fault in evidence.faults})
    yield from _lacks("source", _SOURCES, {row.source.partition(":")[0] for row in interrupts})
    yield from _lacks("delivery", _DELIVERIES, {row.delivery for row in interrupts})
    yield from _lacks("body", ("nudge", "notification"), {_body(row.notification_type) for row in interrupts})
    outcomes = {"seen" if row.seen_at else row.settled_as for row in interrupts}
    yield from _lacks("outcome", _OUTCOMES, outcomes)
    yield from _lacks("mode", _MODES, {session.row.config.mode for session in sessions})
    if not any(session.summaries for session in sessions):
        yield "no compaction"
    if not any(stream.opened.request.after_revision for session in sessions for stream in session.streams):
        yield "no stream opened again"
    if evidence.end_at <= evidence.calm_at or evidence.calm_at <= evidence.run.at:
        yield "no time of calm, or no end"


def _body(notification_type: str | None) -> str:
    return "notification" if notification_type is not None else "nudge"


def _lacks(what: str, wanted: tuple[str, ...], found: Set[str | None]) -> Iterator[str]:
    yield from (f"no {what} of the kind {kind}" for kind in wanted if kind not in found)
