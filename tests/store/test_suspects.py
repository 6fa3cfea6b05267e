"""Suspects: sessions whose workers died twice or more since the last completed round."""

import pytest

from agent_service.domain import Lease, ReplicaId, RoundFailure, SessionId, SessionMode, Usage
from agent_service.store.leases import CANDIDATES, MAX_ATTEMPTS, SUSPECT_ATTEMPTS
from tests.store.takeovers import attempts_of, holder_of, set_attempts
from tests.support import Store, assistant


@pytest.mark.parametrize(("takeovers", "most"), [(2, 100), (3, 10), (4, 1)])
async def test_a_replica_takes_ten_times_fewer_suspects_at_each_number_of_takeovers(
    store: Store, takeovers: int, most: int
) -> None:
    await _sessions(store, 2 * most + 1, takeovers)
    neighbour = await store.session()
    replica, other = await store.replica(), await store.replica()
    assert [claim.lease.session_id for claim in await store.leases.claim_due(replica, 10)] == [neighbour]
    assert await store.leases.claim_suspects(replica, 0) == []
    taken = await store.leases.claim_suspects(replica, 1) + await store.leases.claim_suspects(replica, 200)
    assert len(taken) == most
    assert await store.leases.claim_suspects(replica, 200) == []
    assert len(await store.leases.claim_suspects(other, 200)) == most


@pytest.mark.parametrize("first", [2, 3, 4])
async def test_suspects_of_other_numbers_of_takeovers_are_not_run_at_the_same_time(
    store: Store, first: int
) -> None:
    replica = await store.replica()
    await _sessions(store, 1, first)
    (taken,) = await store.leases.claim_suspects(replica, 10)
    await _sessions(store, 1, 2 if first == 4 else 4)
    assert await store.leases.claim_suspects(replica, 10) == []
    await set_attempts(store, taken.lease.session_id, 0)
    assert len(await store.leases.claim_suspects(replica, 10)) == 1


async def test_a_poison_session_has_failed_in_the_end_and_none_of_its_neighbours(store: Store) -> None:
    """Nothing completes a round beside it: it is at work while a worker has it, and takes that worker along.

    Naive: run all suspects at once."""
    neighbours = 150
    await _sessions(store, neighbours, 0)
    poison = await store.session()
    deaths, failed = 0, None
    while failed is None:
        deaths += 1
        assert deaths <= MAX_ATTEMPTS
        replica = await store.replica()
        while poison not in {claim.lease.session_id for claim in await _claim_all(store, replica)}:
            await _complete_rounds(store, replica)
        await store.leases.sign_off(replica)
        failed = await store.leases.fail_exhausted()
    assert failed == poison
    assert deaths == MAX_ATTEMPTS
    last = await store.replica()
    left = await _claim_all(store, last)
    while await _complete_rounds(store, last):
        left += await _claim_all(store, last)
    assert await store.leases.fail_exhausted() is None
    async with store.own_connection() as connection:
        well = await connection.fetchval(
            "SELECT count(*) FROM sessions WHERE state = 'active' AND attempts = 0"
        )
    assert well == neighbours


@pytest.mark.parametrize("way", ["reply", "answer", "failure", "pause"])
async def test_the_next_suspect_is_taken_when_the_first_has_completed_a_round_or_was_given_back(
    store: Store, way: str
) -> None:
    first = await store.session()
    work = await store.open_turn(first)
    replica = await holder_of(store, first)
    await set_attempts(store, first, 4)
    second = await _suspect(store, attempts=4)
    assert await store.leases.claim_suspects(replica, 10) == []
    rows, transcript = [assistant("Done.")], store.transcript
    match way:
        case "reply":
            await transcript.append_reply(work.lease, work.next_position, work.place, rows, Usage())
        case "answer":
            await transcript.append_answer(work.lease, work.next_position, work.place, rows, Usage())
        case "failure":
            await transcript.fail_round(
                work.lease, work.place, RoundFailure.BAD_REPLY, "empty", Usage(), 3600
            )
        case _:
            await store.sessions.pause(first)
            await transcript.release(work.lease)
    assert [claim.lease.session_id for claim in await store.leases.claim_suspects(replica, 10)] == [second]


async def test_a_paused_suspect_that_its_replica_has_forgotten_keeps_no_other_waiting(store: Store) -> None:
    forgotten = await _suspect(store, attempts=4)
    replica = await store.replica()
    await store.leases.claim_suspects(replica, 10)
    await store.sessions.pause(forgotten)
    assert await store.leases.claim_own(replica, [], 10) == []
    second = await _suspect(store, attempts=4)
    assert [claim.lease.session_id for claim in await store.leases.claim_suspects(replica, 10)] == [second]


async def test_a_suspect_is_left_alone_until_its_back_off_is_over(store: Store) -> None:
    session_id = await _suspect(store)
    replica = await store.replica()
    await _set_not_before(store, session_id, "infinity")
    await store.nudge(session_id)
    assert await store.leases.claim_suspects(replica, 10) == []
    await _set_not_before(store, session_id, "now")
    assert len(await store.leases.claim_suspects(replica, 10)) == 1


async def test_a_suspect_that_waits_for_interrupts_is_due_only_with_one(store: Store) -> None:
    session_id = await _suspect(store, SessionMode.ON_INTERRUPT)
    replica = await store.replica()
    assert await store.leases.claim_suspects(replica, 10) == []
    await store.nudge(session_id)
    assert await store.leases.claim_due(replica, 10) == []
    assert len(await store.leases.claim_suspects(replica, 10)) == 1


@pytest.mark.parametrize(("holder_died", "attempts"), [(True, 3), (False, 2)])
async def test_a_suspect_taken_over_counts_one_attempt_more_and_a_due_one_does_not(
    store: Store, holder_died: bool, attempts: int
) -> None:
    session_id = await _suspect(store)
    if holder_died:
        dead = await store.replica()
        await store.leases.claim_suspects(dead, 10)
        await store.leases.sign_off(dead)
    assert await store.leases.claim_from_dead(await store.replica(), 10) == []
    assert len(await store.leases.claim_suspects(await store.replica(), 10)) == 1
    assert await attempts_of(store, session_id) == attempts


async def test_a_suspect_that_its_own_replica_lost_track_of_is_taken_again(store: Store) -> None:
    await _suspect(store)
    replica = await store.replica()
    (before,) = await store.leases.claim_suspects(replica, 10)
    (after,) = await store.leases.claim_own(replica, [], 10)
    assert after.lease.epoch > before.lease.epoch


async def test_suspects_however_many_and_long_due_hold_up_no_other_session(store: Store) -> None:
    """Naive: leave the suspects out after the candidates have been picked."""
    await _suspect(store)
    async with store.own_connection() as connection:
        await connection.execute(
            "INSERT INTO sessions (session_id, create_time, goal, state, config, labels, frame_tag, due_at, "
            "outstanding, attempts) "
            "SELECT lpad(to_hex(n), 32, '0')::uuid, now(), '', 'active', config, '{}', '', '-infinity', 1, 2 "
            f"FROM sessions, generate_series(1, {CANDIDATES}) n"
        )
    by_time = await store.session()
    by_interrupt = await store.session(SessionMode.ON_INTERRUPT)
    await store.nudge(by_interrupt)
    claims = await store.leases.claim_due(await store.replica(), 10)
    assert {claim.lease.session_id for claim in claims} == {by_time, by_interrupt}


async def _suspect(
    store: Store, mode: SessionMode = SessionMode.AUTONOMOUS, attempts: int = SUSPECT_ATTEMPTS
) -> SessionId:
    session_id = await store.session(mode)
    await set_attempts(store, session_id, attempts)
    return session_id


async def _sessions(store: Store, count: int, attempts: int) -> None:
    """So many that are due, after so many takeovers."""
    config = """{"mode": "autonomous", "cooldown_microseconds": 0}"""
    async with store.own_connection() as connection:
        await connection.execute(
            "INSERT INTO sessions (session_id, create_time, goal, state, config, labels, frame_tag, due_at, "
            "attempts) "
            f"SELECT gen_random_uuid(), now(), '', 'active', '{config}', '{{}}', '', now(), {attempts} "
            f"FROM generate_series(1, {count})"
        )


async def _claim_all(store: Store, replica: ReplicaId) -> list[Lease]:
    leases = store.leases
    found: list[Lease] = []
    for claim in (leases.claim_due, leases.claim_from_dead, leases.claim_suspects):
        while claimed := await claim(replica, 200):
            found += claimed
    return found


async def _complete_rounds(store: Store, replica: ReplicaId) -> bool:
    """Every session that the replica holds completes a round and goes to sleep. False: it held none."""
    async with store.own_connection() as connection:
        done = await connection.execute(
            "UPDATE sessions SET attempts = 0, lease_owner = NULL, due_at = NULL WHERE lease_owner = $1",
            replica,
        )
    return str(done) != "UPDATE 0"


async def _set_not_before(store: Store, session_id: SessionId, time: str) -> None:
    async with store.own_connection() as connection:
        await connection.execute(
            f"UPDATE sessions SET not_before = '{time}' WHERE session_id = $1", session_id
        )
