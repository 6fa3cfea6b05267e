"""A wait goes on until the same deadline, and ends once, whatever dies or is lost at whatever point."""

from collections.abc import Sequence

import pytest

from agent_service.loop.agent import ORPHANED, TIME_IS_UP, WOKEN
from tests.loop.checks import check_requests
from tests.loop.faults import Point, claim_again, lose_track, store_with
from tests.loop.parked import HOUR, Parked, park
from tests.loop.scripted import ScriptedModel, agent, calls, die, run_and_die, says, take_over
from tests.support import Store

ANSWER = says("I see.")
CALLED, PARKING = Point("transcript", "append_reply", after=True), Point("transcript", "park", after=False)
PARKED = Point("transcript", "park", after=True)
STARTED = Point("transcript", "start_tools", after=True)
WAKING, AWAKE = Point("safe_points", "repair", after=False), Point("safe_points", "repair", after=True)


async def waiting(store: Store, beside: Sequence[str] = ("wait",)) -> Parked:
    """A session that is about to wait, beside other calls."""
    return Parked(store, await store.session(), ScriptedModel([calls(*beside, arguments=HOUR), ANSWER]))


async def assert_woken_once(parked: Parked, why: str = WOKEN) -> None:
    assert parked.shown() == [("wait_0", why)]
    assert await parked.responses() == [("wait_0", why)]
    kinds = await parked.store.kinds(parked.session_id)
    assert kinds.count("interrupt_delivered") == kinds.count("interrupt_seen") == (why == WOKEN)
    assert kinds.count("turn_started") == kinds.count("turn_ended") == 1
    check_requests(parked.model.sent)


@pytest.mark.parametrize("point", [CALLED, PARKING])
async def test_killed_before_it_is_parked_a_wait_goes_on_with_the_next_worker(
    store: Store, point: Point
) -> None:
    parked = await waiting(store)
    await run_and_die(store_with(store, point, die), parked.session_id, parked.model)
    deadline = await parked.deadline()
    await agent(store, parked.model).run(await take_over(store, parked.session_id))
    await parked.assert_waits(deadline)
    await store.nudge(parked.session_id)
    await parked.run()
    await assert_woken_once(parked)


async def test_killed_after_it_is_parked_a_wait_is_nobodys(store: Store) -> None:
    parked = await waiting(store)
    await run_and_die(store_with(store, PARKED, die), parked.session_id, parked.model)
    assert await store.leases.claim_from_dead(await store.replica(), 10) == []
    await parked.assert_waits()
    await store.nudge(parked.session_id)
    await parked.run()
    await assert_woken_once(parked)


@pytest.mark.parametrize("point", [WAKING, AWAKE])
async def test_killed_while_it_ends_a_wait_ends_once(store: Store, point: Point) -> None:
    parked = await park(store, ANSWER)
    await store.nudge(parked.session_id)
    await run_and_die(store_with(store, point, die), parked.session_id, parked.model)
    await agent(store, parked.model).run(await take_over(store, parked.session_id))
    await assert_woken_once(parked)


@pytest.mark.parametrize("point", [CALLED, PARKING])
async def test_a_wait_whose_deadline_passed_while_its_worker_was_dead_is_over(
    store: Store, point: Point
) -> None:
    parked = await waiting(store)
    await run_and_die(store_with(store, point, die), parked.session_id, parked.model)
    await parked.let_time_pass()
    await agent(store, parked.model).run(await take_over(store, parked.session_id))
    await assert_woken_once(parked, TIME_IS_UP)


@pytest.mark.parametrize("point", [CALLED, PARKING, PARKED])
async def test_a_parking_whose_outcome_is_unknown_is_made_good(store: Store, point: Point) -> None:
    parked = await waiting(store)
    replica = await lose_track(store, parked.session_id, parked.model, point)
    deadline = await parked.deadline()
    for claim in await claim_again(store, replica):
        await agent(store, parked.model).run(claim)
    await parked.assert_waits(deadline)
    await store.nudge(parked.session_id)
    await parked.run()
    await assert_woken_once(parked)


@pytest.mark.parametrize("why", [WOKEN, TIME_IS_UP])
@pytest.mark.parametrize("point", [WAKING, AWAKE])
async def test_an_end_of_the_wait_whose_outcome_is_unknown_is_made_good(
    store: Store, point: Point, why: str
) -> None:
    parked = await park(store, ANSWER)
    if why == WOKEN:
        await store.nudge(parked.session_id)
    else:
        await parked.let_time_pass()
    replica = await lose_track(store, parked.session_id, parked.model, point)
    (claim,) = await claim_again(store, replica)
    await agent(store, parked.model).run(claim)
    await assert_woken_once(parked, why)


async def test_a_parking_again_whose_outcome_is_unknown_is_made_good(store: Store) -> None:
    parked = await park(store, ANSWER)
    deadline = await parked.deadline()
    await store.overdue(parked.session_id)
    replica = await lose_track(store, parked.session_id, parked.model, AWAKE)
    assert await claim_again(store, replica) == []
    await parked.assert_waits(deadline)


@pytest.mark.parametrize("order", [("wait", "dig"), ("dig", "wait")])
async def test_the_outcome_of_the_other_calls_is_unknown_and_the_wait_goes_on(
    store: Store, order: tuple[str, str]
) -> None:
    parked = await waiting(store, beside=order)
    await run_and_die(store_with(store, STARTED, die), parked.session_id, parked.model)
    deadline = await parked.deadline()
    await agent(store, parked.model).run(await take_over(store, parked.session_id))
    dug, waited = f"dig_{order.index('dig')}", f"wait_{order.index('wait')}"
    assert await parked.responses() == [(dug, ORPHANED)]
    await parked.assert_waits(deadline)

    await store.nudge(parked.session_id)
    await parked.run()
    assert parked.shown() == sorted([(dug, ORPHANED), (waited, WOKEN)], key=lambda shown: shown[0][-1])
    check_requests(parked.model.sent)


async def test_what_came_meanwhile_ends_the_wait_in_the_repair_of_the_other_calls(store: Store) -> None:
    parked = await waiting(store, beside=("wait", "dig"))
    await run_and_die(store_with(store, STARTED, die), parked.session_id, parked.model)
    await store.nudge(parked.session_id)
    before = await store.kinds(parked.session_id)
    await agent(store, parked.model).run(await take_over(store, parked.session_id))
    repaired = (await store.streams.page(parked.session_id, len(before), 100))[:3]
    assert len({event.create_time for event in repaired}) == 1
    assert parked.shown() == [("wait_0", WOKEN), ("dig_1", ORPHANED)]
    check_requests(parked.model.sent)


async def test_other_calls_that_are_safe_to_repeat_are_run_again_before_the_wait_goes_on(
    store: Store,
) -> None:
    parked = await waiting(store, beside=("now", "wait", "dig"))
    await run_and_die(store_with(store, STARTED, die), parked.session_id, parked.model)
    deadline = await parked.deadline()
    await agent(store, parked.model).run(await take_over(store, parked.session_id))
    (now, time), dig = await parked.responses()
    assert (now, dig) == ("now_0", ("dig_2", ORPHANED))
    assert time.startswith("20")
    await parked.assert_waits(deadline)
