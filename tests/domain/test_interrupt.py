from datetime import UTC, datetime, timedelta
from itertools import permutations

import pytest

from agent_service.domain import (
    Delivery,
    Fact,
    Interrupt,
    InterruptState,
    MessageId,
    Nudge,
    SessionId,
    Settlement,
    new_id,
)

POSTED, LAST = 3, 9
FACTS = ("delivered", "seen", "settled")


def at(revision: int) -> Fact:
    return Fact(datetime(2030, 1, 1, tzinfo=UTC) + timedelta(seconds=revision), revision)


def interrupt(delivered: int = 0, seen: int = 0, settled: int = 0) -> Interrupt:
    """An interrupt about which these facts came true at these revisions, or not at all."""
    return Interrupt(
        MessageId(new_id()),
        SessionId(new_id()),
        "operator",
        "ryan",
        Nudge("Look north."),
        Delivery.NEXT_ROUND,
        "",
        None,
        posted=at(POSTED),
        delivered=at(delivered) if delivered else None,
        seen=at(seen) if seen else None,
        settled=Settlement(at(settled), InterruptState.CANCELLED, "not needed") if settled else None,
        position=7 if delivered else 0,
        turn=2 if delivered else 0,
        round=1 if delivered else 0,
        render_version=1 if delivered else 0,
    )


@pytest.mark.parametrize("order", [order for n in range(4) for order in permutations(FACTS, n)])
def test_an_interrupt_as_of_a_revision_has_the_facts_up_to_it_in_whatever_order_they_came(
    order: tuple[str, ...],
) -> None:
    revisions = {name: POSTED + 2 * n for n, name in enumerate(order, 1)}
    whole = interrupt(**revisions)
    for revision in range(POSTED, LAST + 1):
        then = whole.as_of(revision)
        known = [name for name in FACTS if getattr(then, name)]
        assert known == [name for name in FACTS if revisions.get(name, LAST + 1) <= revision]
        assert (then.position > 0) == (then.turn > 0) == (then.render_version > 0) == ("delivered" in known)
        assert all(whole.as_of(later).as_of(revision) == then for later in range(revision, LAST + 1))
    assert whole.as_of(LAST) == whole


@pytest.mark.parametrize(
    ("revisions", "state", "final"),
    [
        ({}, InterruptState.PENDING, False),
        ({"delivered": 4}, InterruptState.DELIVERED, False),
        ({"delivered": 4, "seen": 5}, InterruptState.SEEN, True),
        ({"settled": 4}, InterruptState.CANCELLED, True),
        ({"delivered": 4, "settled": 5}, InterruptState.CANCELLED, True),
    ],
)
def test_the_state_follows_from_the_facts(
    revisions: dict[str, int], state: InterruptState, final: bool
) -> None:
    assert interrupt(**revisions).state is state
    assert state.final is final


def test_an_interrupt_was_pending_when_it_was_posted() -> None:
    whole = interrupt(delivered=4, seen=5)
    assert [whole.as_of(revision).state for revision in (3, 4, 5)] == [
        InterruptState.PENDING,
        InterruptState.DELIVERED,
        InterruptState.SEEN,
    ]
