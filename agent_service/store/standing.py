"""Where a session stands, and what waits there, as its holder reads it."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from agent_service.domain import UNDECIDED, Interrupt, Place, Placement, Session
from agent_service.store.rows import MESSAGE_COLUMNS, SESSION_COLUMNS, Row, get, interrupt, profile, session

STANDING_COLUMNS = f"""{SESSION_COLUMNS}, outstanding, next_position, round, attempt, interrupted, profile,
    round - rounds_from AS rounds, input_tokens + output_tokens - tokens_from AS tokens,
    due_at <= clock_timestamp() AS due, clock_timestamp() AS now"""

# Of a great many that wait nobody reads all, but all are counted.
MAX_READ = 250

# Those of the session $1, in the order of the deposits.
_WAITING = f"""
SELECT {MESSAGE_COLUMNS}, count(*) OVER () AS waiting FROM messages
WHERE session_id = $1 AND type = 'system' AND position IS NULL AND settled_at IS NULL{{}}
ORDER BY posted_revision LIMIT {MAX_READ}"""
WAITING = _WAITING.format("")
WAITING_OF_MODES = _WAITING.format(" AND delivery = ANY ($2::text[])")

# A safe point may decide by what is no older, and unchanged.
_FRESH_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Standing:
    session: Session
    due: bool
    # The newest round begun in the turn, and whether a request of it was cancelled for an interrupt.
    place: Place
    interrupted: bool
    next_position: int
    # Where interrupts go that are delivered in the open turn.
    placement: Placement
    # Of this turn, and since the session was last resumed.
    rounds: int
    tokens: int
    outstanding: int
    now: datetime = field(compare=False)
    # What waits, expired or due, and how much more of it was not read.
    waiting: Sequence[Interrupt]
    unread: int
    # By the clock of `time.monotonic`.
    read_at: float = field(compare=False)

    @property
    def is_fresh(self) -> bool:
        return time.monotonic() - self.read_at < _FRESH_SECONDS


def standing(row: Row, waiting: Sequence[Row], read_at: float) -> Standing:
    """The columns of a standing, and the rows that wait, read since."""
    return Standing(
        session(row),
        bool(row["due"]),
        Place(get(row, "turn", int), get(row, "round", int), get(row, "attempt", int)),
        get(row, "interrupted", bool),
        get(row, "next_position", int),
        (profile(row, "profile") or UNDECIDED).placement,
        get(row, "rounds", int),
        get(row, "tokens", int),
        get(row, "outstanding", int),
        get(row, "now", datetime),
        [interrupt(one) for one in waiting],
        get(waiting[0], "waiting", int) - len(waiting) if waiting else 0,
        read_at,
    )
