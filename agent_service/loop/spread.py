"""Spreads sessions over the replicas without a leader.

A replica claims whatever is due, so that nothing waits for another one. One that holds far more than its
share hands the surplus over at safe points, to those that hold less: not before it is that far above, and
then down to the share itself, so that nothing goes back and forth.
"""

import math
import random
from collections.abc import Sequence

from agent_service.domain import ReplicaId
from agent_service.store.leases import Load

# Loads come and go: less than this above the share is no surplus.
MARGIN_SESSIONS = 10
MARGIN_RATIO = 0.1


class Spread:
    """Who gets the next sessions that come to a safe point."""

    def __init__(self) -> None:
        self._takers: list[ReplicaId] = []

    def plan(self, held: int, others: Sequence[Load]) -> None:
        """Decide anew, from what this replica and the others hold now."""
        self._takers = _takers(held, [other for other in others if other.held < other.max_sessions])

    def next_taker(self) -> ReplicaId | None:
        """The replica to hand this session over to, if any."""
        return self._takers.pop() if self._takers else None


def _takers(held: int, others: Sequence[Load]) -> list[ReplicaId]:
    """One for each session of the surplus. Several replicas that have one choose at random, so that together
    they give nobody more than is lacking, by and large."""
    share = math.ceil((held + sum(other.held for other in others)) / (1 + len(others)))
    if held <= share * (1 + MARGIN_RATIO) + MARGIN_SESSIONS:
        return []
    lacking = [other.replica for other in others for _ in range(min(share, other.max_sessions) - other.held)]
    return random.sample(lacking, min(held - share, len(lacking)))
