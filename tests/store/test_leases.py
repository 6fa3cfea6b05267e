import asyncio

import pytest

from agent_service.domain import SessionMode, SessionState, Usage
from agent_service.store.leases import BATCH, CANDIDATES, Load, register, renew
from tests.store.takeovers import attempts_of, holder_of, set_attempts
from tests.support import Store, assistant


async def test_claims_that_run_at_the_same_time_share_nothing(store: Store) -> None:
    sessions = {await store.session() for _ in range(20)}
    replicas = [await store.replica() for _ in range(4)]
    claimed = await asyncio.gather(*(store.leases.claim_due(replica, 6) for replica in replicas))
    ids = [claim.lease.session_id for claims in claimed for claim in claims]
    assert len(ids) == len(set(ids))
    rest = await store.leases.claim_due(replicas[0], 100)
    assert set(ids) | {claim.lease.session_id for claim in rest} == sessions


async def test_a_claim_passes_by_a_session_whose_row_is_held(store: Store) -> None:
    held, free = await store.session(), await store.session()
    async with store.own_connection() as holder, holder.transaction():
        await holder.execute("SELECT FROM sessions WHERE session_id = $1 FOR UPDATE", held)
        claims = await store.leases.claim_due(await store.replica(), 10)
    assert [claim.lease.session_id for claim in claims] == [free]


async def test_a_session_that_waits_for_interrupts_is_due_only_with_one(store: Store) -> None:
    session_id = await store.session(SessionMode.ON_INTERRUPT)
    assert await store.leases.claim_due(await store.replica(), 10) == []
    await store.nudge(session_id)
    await store.claim(session_id)


async def test_an_interrupt_ends_the_cooldown(store: Store) -> None:
    session_id = await store.session(cooldown_seconds=3600)
    work = await store.open_turn(session_id)
    await store.transcript.append_answer(
        work.lease, work.next_position, work.place, [assistant("Done.")], Usage()
    )
    assert await store.leases.claim_due(await store.replica(), 10) == []
    await store.nudge(session_id)
    await store.claim(session_id)


async def test_the_sessions_of_a_dead_replica_are_taken_under_a_new_epoch(store: Store) -> None:
    session_id = await store.session()
    dead, alive = await store.replica(), await store.replica()
    (old,) = await store.leases.claim_due(dead, 10)
    assert await store.leases.claim_from_dead(alive, 10) == []
    await store.leases.sign_off(dead)
    (new,) = await store.leases.claim_from_dead(alive, 10)
    assert new.lease.session_id == session_id
    assert new.lease.epoch > old.lease.epoch
    assert await store.leases.held(alive) == {new.lease}


async def test_a_takeover_counts_as_an_attempt_and_ones_own_session_taken_again_does_not(
    store: Store,
) -> None:
    await store.session()
    dead, alive = await store.replica(), await store.replica()
    await store.leases.claim_due(dead, 10)
    await store.leases.sign_off(dead)
    await store.leases.claim_from_dead(alive, 10)
    (again,) = await store.leases.claim_own(alive, [], 10)
    assert await store.leases.claim_own(alive, [again.lease], 10) == []
    assert await attempts_of(store, again.lease.session_id) == 1
    assert await store.leases.held(alive) == {again.lease}


async def test_a_lease_that_has_run_out_cannot_be_renewed(store: Store) -> None:
    replica = await store.replica()
    async with store.own_connection() as connection:
        assert await renew(connection, replica, 60)
        await store.leases.sign_off(replica)
        assert not await renew(connection, replica, 60)


async def test_a_replica_registers_once_under_one_id(store: Store) -> None:
    async with store.own_connection() as connection:
        replica = await store.replica()
        other = await store.replica()
        assert replica != other
        assert await connection.fetchval("SELECT count(*) FROM replicas") == 2
        await register(connection, replica=type(replica)(int=1), address="a:1", lease_seconds=1)
        assert await connection.fetchval("SELECT count(*) FROM replicas") == 3


async def test_a_replica_whose_lease_has_run_out_takes_nothing_not_even_from_itself(store: Store) -> None:
    await store.session()
    replica = await store.replica()
    await store.leases.claim_due(replica, 10)
    await store.session()
    await store.leases.sign_off(replica)
    assert await store.leases.claim_due(replica, 10) == []
    assert await store.leases.claim_own(replica, [], 10) == []
    assert await store.leases.claim_from_dead(replica, 10) == []


async def test_a_session_whose_workers_die_again_and_again_has_failed_until_it_is_resumed(
    store: Store,
) -> None:
    session_id, neighbour = await store.session(), await store.session()
    dead = await store.replica()
    await store.leases.claim_due(dead, 10)
    await store.leases.sign_off(dead)
    for _ in range(4):
        assert await store.leases.fail_exhausted() is None
        dead = await store.replica()
        claims = await store.leases.claim_from_dead(dead, 10) + await store.leases.claim_suspects(dead, 10)
        assert {claim.lease.session_id for claim in claims} == {session_id, neighbour}
        async with store.own_connection() as connection:
            await connection.execute("UPDATE sessions SET attempts = 0 WHERE session_id = $1", neighbour)
        await store.leases.sign_off(dead)
    assert await store.leases.fail_exhausted() == session_id
    assert await store.leases.fail_exhausted() is None
    alive = await store.replica()
    assert [claim.lease.session_id for claim in await store.leases.claim_from_dead(alive, 10)] == [neighbour]
    failed = (await store.sessions.get(session_id)).session
    assert (failed.state, failed.state_reason) == (SessionState.FAILED, "5 workers died while they ran it")
    assert (await store.kinds(session_id)) == ["session_changed"] * 2
    await store.nudge(session_id)

    await store.sessions.resume(session_id)
    assert (await store.claim(session_id)).session_id == session_id


# ---- sessions handed over, and given back


async def test_a_session_is_handed_over_with_its_turn_open(store: Store) -> None:
    session_id = await store.session()
    work = await store.open_turn(session_id)
    taker, other = await store.replica(), await store.replica()
    await store.leases.take_at_most(taker, 10)
    await store.transcript.release(work.lease, taker)
    assert await store.leases.claim_due(other, 10) == []
    (claim,) = await store.leases.claim_own(taker, [], 10)
    assert claim.lease.session_id == session_id
    snapshot = await store.transcript.load(claim)
    assert (snapshot.turn_open, snapshot.standing.next_position) == (True, work.next_position)


async def test_a_paused_session_is_handed_to_nobody(store: Store) -> None:
    session_id = await store.session()
    work = await store.open_turn(session_id)
    taker, other = await store.replica(), await store.replica()
    await store.leases.take_at_most(taker, 10)
    await store.sessions.pause(session_id)
    await store.transcript.release(work.lease, taker)
    assert await store.leases.held(taker) == set()
    await store.sessions.resume(session_id)
    (claim,) = await store.leases.claim_due(other, 10)
    assert claim.lease.session_id == session_id


async def test_of_more_that_wait_than_a_claim_looks_at_each_has_its_turn(store: Store) -> None:
    """Naive: look at the first of them, to whom new interrupts may come as fast as they are taken."""
    first = await store.session(SessionMode.ON_INTERRUPT)
    async with store.own_connection() as connection:
        await connection.execute(
            "INSERT INTO sessions "
            "(session_id, create_time, goal, state, config, labels, frame_tag, outstanding) "
            "SELECT lpad(to_hex(n), 32, '0')::uuid, now(), '', 'active', config, '{}', '', 1 "
            f"FROM sessions, generate_series(1, {CANDIDATES}) n WHERE session_id = $1",
            first,
        )
        last = await store.session(SessionMode.ON_INTERRUPT)
        await store.nudge(last)
        replica = await store.replica()
        # One claim in two looks at it, and takes a tenth of what it looks at.
        for _ in range(500):
            claims = await store.leases.claim_due(replica, BATCH)
            if last in {claim.lease.session_id for claim in claims}:
                return
            await connection.execute("UPDATE sessions SET lease_owner = NULL WHERE lease_owner = $1", replica)
    raise AssertionError("it waits for ever")


@pytest.mark.parametrize("why", ["dead", "about to stop", "suspect"])
async def test_a_session_that_cannot_be_handed_over_is_given_back(store: Store, why: str) -> None:
    work = await store.open_turn(await store.session())
    taker = await store.replica()
    await store.leases.take_at_most(taker, 0 if why == "about to stop" else 10)
    if why == "dead":
        await store.leases.sign_off(taker)
    if why == "suspect":
        await set_attempts(store, work.lease.session_id, 2)
    await store.transcript.release(work.lease, taker)
    alive = await store.replica()
    found = await store.leases.claim_due(alive, 10) or await store.leases.claim_suspects(alive, 10)
    assert [claim.lease.session_id for claim in found] == [work.lease.session_id]


async def test_a_replica_sees_what_the_other_live_ones_hold_and_take(store: Store) -> None:
    for _ in range(3):
        await store.session()
    one, two, dead = [await store.replica() for _ in range(3)]
    await store.leases.take_at_most(two, 10)
    await store.leases.claim_due(one, 1)
    await store.leases.claim_due(two, 2)
    await store.leases.sign_off(dead)
    assert await store.leases.others(one) == [Load(two, 2, 10)]
    assert await store.leases.others(two) == [Load(one, 1, 0)]


async def test_what_is_given_back_at_a_clean_stop_has_lost_no_worker(store: Store) -> None:
    work = await store.open_turn(await store.session())
    await store.leases.give_back(await holder_of(store, work.lease.session_id))
    assert (await store.claim(work.lease.session_id)).epoch > work.lease.epoch
    assert await attempts_of(store, work.lease.session_id) == 0
