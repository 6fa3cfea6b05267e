"""Faults are planned: a seed says which, when and to what."""

from random import Random

import pytest

from tests.torture.plan import Fault, Kind, Targets, plan

TARGETS = Targets(("agent-1", "agent-2"), ("gateway-1",), ("agent-1>postgres",), ("scripted",))


def planned(seed: int, seconds: float = 600) -> list[Fault]:
    return list(plan(Random(seed), seconds, TARGETS, 2, tuple(Kind)))


def test_a_seed_gives_the_same_plan_again_and_another_seed_another_one() -> None:
    assert planned(1) == planned(1)
    assert planned(1) != planned(2)


@pytest.mark.parametrize("seed", range(20))
def test_half_a_minute_is_enough_for_every_kind(seed: int) -> None:
    assert {fault.kind for fault in planned(seed, seconds=30)} == set(Kind)


def test_every_target_meets_every_kind_that_can_befall_it() -> None:
    met = {(fault.kind, fault.target) for fault in planned(1)}
    assert met == {(kind, target) for kind in Kind for target in TARGETS.of(kind)}


def test_several_begin_at_once() -> None:
    begin = [fault.at_seconds for fault in planned(1)]
    assert len(set(begin)) < len(begin)
