from collections import Counter
from uuid import UUID

import pytest

from agent_service.domain import ReplicaId
from agent_service.loop.spread import Spread
from agent_service.store.leases import Load

MAX_SESSIONS = 1000


def load(number: int, held: int, max_sessions: int = MAX_SESSIONS) -> Load:
    return Load(ReplicaId(UUID(int=number)), held, max_sessions)


def handed_over(held: int, *others: Load) -> dict[int, int]:
    """How many sessions each replica is handed by one that comes to many safe points."""
    spread = Spread()
    spread.plan(held, others)
    takers = iter(spread.next_taker, None)
    return dict(Counter(taker.int for taker in takers))


def test_replicas_that_come_later_get_their_share_of_what_the_first_one_holds() -> None:
    assert handed_over(300, load(1, 0), load(2, 0)) == {1: 100, 2: 100}


def test_a_replica_alone_keeps_everything() -> None:
    assert handed_over(1000) == {}


@pytest.mark.parametrize(("held", "other"), [(1, 0), (20, 0), (109, 91), (1000, 900)])
def test_a_small_difference_is_left_as_it_is(held: int, other: int) -> None:
    assert handed_over(held, load(1, other)) == {}


def test_nothing_is_handed_to_a_replica_that_has_its_share() -> None:
    assert handed_over(300, load(1, 150), load(2, 0)) == {2: 150}


def test_nothing_is_handed_to_a_replica_that_is_full_or_stops_or_has_not_told_what_it_takes() -> None:
    assert handed_over(300, load(1, 0, 0), load(2, 10, 10), load(3, 0)) == {3: 150}
    assert handed_over(300, load(1, 10, 10)) == {}


def test_a_small_replica_is_handed_only_what_it_takes() -> None:
    assert handed_over(300, load(1, 5, 20)) == {1: 15}


def test_a_plan_takes_the_place_of_the_one_before() -> None:
    spread = Spread()
    spread.plan(300, [load(1, 0)])
    spread.plan(150, [load(1, 150)])
    assert spread.next_taker() is None


@pytest.mark.parametrize("held", [[900, 0, 0, 0], [500, 400, 0, 0], [300, 300, 300, 0], [400, 300, 200, 0]])
def test_replicas_that_plan_at_the_same_time_come_to_rest_and_move_no_session_to_and_fro(
    held: list[int],
) -> None:
    share, moved = sum(held) / len(held), 0
    surplus = sum(max(0, number - share) for number in held)
    while moves := [
        (giver, taker, count)
        for giver, number in enumerate(held)
        for taker, count in handed_over(
            number, *(load(n, other) for n, other in enumerate(held) if n != giver)
        ).items()
    ]:
        for giver, taker, count in moves:
            held[giver] -= count
            held[taker] += count
            moved += count
    assert moved <= surplus
    assert max(held) - share <= 0.1 * share + 11
