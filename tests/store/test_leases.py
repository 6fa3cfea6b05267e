import asyncio

import pytest

from agent_service.domain import ReplicaId, RoundFailure, SessionId, SessionMode, SessionState, Usage
from agent_service.store.leases import CANDIDATES, register, renew
from tests.support import Store, assistant


async def test_claims_that_run_at_the_same_time_share_nothing(store: Store) -> None:
    sessions = {await store.session() for _ in range(20)}
    replicas = [await store.replica() for _ in range(4)]
    claimed = await asyncio.gather(*(store.leases.claim_due(replica, 6) for replica in replicas))
    ids = [lease.session_id for leases in claimed for lease in leases]
    assert len(ids) == len(set(ids))
    rest = await store.leases.claim_due(replicas[0], 100)
    assert set(ids) | {lease.session_id for lease in rest} == sessions


async def test_a_claim_passes_by_a_session_whose_row_is_held(store: Store) -> None:
    held, free = await store.session(), await store.session()
    async with store.own_connection() as holder, holder.transaction():
        await holder.execute("SELECT FROM sessions WHERE session_id = $1 FOR UPDATE", held)
        leases = await store.leases.claim_due(await store.replica(), 10)
    assert [lease.session_id for lease in leases] == [free]


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
    assert new.session_id == session_id
    assert new.epoch > old.epoch
    assert await store.leases.held(alive) == {new}


async def test_a_takeover_counts_as_an_attempt_and_ones_own_session_taken_again_does_not(
    store: Store,
) -> None:
    await store.session()
    dead, alive = await store.replica(), await store.replica()
    await store.leases.claim_due(dead, 10)
    await store.leases.sign_off(dead)
    await store.leases.claim_from_dead(alive, 10)
    (again,) = await store.leases.claim_own(alive, [], 10)
    assert await store.leases.claim_own(alive, [again], 10) == []
    async with store.database.connection() as connection:
        attempts = await connection.fetchval("SELECT attempts FROM sessions")
    assert attempts == 1
    assert await store.leases.held(alive) == {again}


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
        leases = await store.leases.claim_from_dead(dead, 10) + await store.leases.claim_suspect(dead, 10)
        assert {lease.session_id for lease in leases} == {session_id, neighbour}
        async with store.own_connection() as connection:
            await connection.execute("UPDATE sessions SET attempts = 0 WHERE session_id = $1", neighbour)
        await store.leases.sign_off(dead)
    assert await store.leases.fail_exhausted() == session_id
    assert await store.leases.fail_exhausted() is None
    alive = await store.replica()
    assert [lease.session_id for lease in await store.leases.claim_from_dead(alive, 10)] == [neighbour]
    failed = (await store.sessions.get(session_id)).session
    assert (failed.state, failed.state_reason) == (SessionState.FAILED, "5 workers died while they ran it")
    assert (await store.kinds(session_id)) == ["session_changed"] * 2
    await store.nudge(session_id)

    await store.sessions.resume(session_id)
    assert (await store.claim(session_id)).session_id == session_id


# ---- suspects: sessions whose workers died twice or more since the last completed round


async def test_a_replica_takes_one_suspect_at_a_time_and_other_sessions_at_once(store: Store) -> None:
    suspects = [await _suspect(store) for _ in range(3)]
    neighbour = await store.session()
    replica, other = await store.replica(), await store.replica()
    assert [lease.session_id for lease in await store.leases.claim_due(replica, 10)] == [neighbour]
    assert await store.leases.claim_suspect(replica, 0) == []
    (first,) = await store.leases.claim_suspect(replica, 10)
    assert await store.leases.claim_suspect(replica, 10) == []
    (second,) = await store.leases.claim_suspect(other, 10)
    assert first.session_id != second.session_id
    assert {first.session_id, second.session_id} < set(suspects)


@pytest.mark.parametrize("way", ["reply", "answer", "failure", "pause"])
async def test_the_next_suspect_is_taken_when_the_first_has_completed_a_round_or_was_given_back(
    store: Store, way: str
) -> None:
    first = await store.session()
    work = await store.open_turn(first)
    replica = await _holder(store, first)
    await _set_attempts(store, first, 2)
    second = await _suspect(store)
    assert await store.leases.claim_suspect(replica, 10) == []
    rows, transcript = [assistant("Done.")], store.transcript
    match way:
        case "reply":
            await transcript.append_reply(work.lease, work.next_position, work.place, rows, Usage())
        case "answer":
            await transcript.append_answer(work.lease, work.next_position, work.place, rows, Usage())
        case "failure":
            await transcript.fail_round(work.lease, work.place, RoundFailure.BAD_REPLY, "empty", 3600)
        case _:
            await store.sessions.pause(first)
            await transcript.release(work.lease)
    assert [lease.session_id for lease in await store.leases.claim_suspect(replica, 10)] == [second]


async def test_a_paused_suspect_that_its_replica_has_forgotten_keeps_no_other_waiting(store: Store) -> None:
    forgotten = await _suspect(store)
    replica = await store.replica()
    await store.leases.claim_suspect(replica, 10)
    await store.sessions.pause(forgotten)
    assert await store.leases.claim_own(replica, [], 10) == []
    second = await _suspect(store)
    assert [lease.session_id for lease in await store.leases.claim_suspect(replica, 10)] == [second]


async def test_a_suspect_is_left_alone_until_its_back_off_is_over(store: Store) -> None:
    session_id = await _suspect(store)
    replica = await store.replica()
    await _set_not_before(store, session_id, "infinity")
    await store.nudge(session_id)
    assert await store.leases.claim_suspect(replica, 10) == []
    await _set_not_before(store, session_id, "now")
    assert len(await store.leases.claim_suspect(replica, 10)) == 1


async def test_a_suspect_that_waits_for_interrupts_is_due_only_with_one(store: Store) -> None:
    session_id = await _suspect(store, SessionMode.ON_INTERRUPT)
    replica = await store.replica()
    assert await store.leases.claim_suspect(replica, 10) == []
    await store.nudge(session_id)
    assert await store.leases.claim_due(replica, 10) == []
    assert len(await store.leases.claim_suspect(replica, 10)) == 1


@pytest.mark.parametrize(("holder_died", "attempts"), [(True, 3), (False, 2)])
async def test_a_suspect_taken_over_counts_one_attempt_more_and_a_due_one_does_not(
    store: Store, holder_died: bool, attempts: int
) -> None:
    session_id = await _suspect(store)
    if holder_died:
        dead = await store.replica()
        await store.leases.claim_suspect(dead, 10)
        await store.leases.sign_off(dead)
    assert await store.leases.claim_from_dead(await store.replica(), 10) == []
    assert len(await store.leases.claim_suspect(await store.replica(), 10)) == 1
    assert await _attempts(store, session_id) == attempts


async def test_a_suspect_that_its_own_replica_lost_track_of_is_taken_again(store: Store) -> None:
    await _suspect(store)
    replica = await store.replica()
    (before,) = await store.leases.claim_suspect(replica, 10)
    (after,) = await store.leases.claim_own(replica, [], 10)
    assert after.epoch > before.epoch


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
    leases = await store.leases.claim_due(await store.replica(), 10)
    assert {lease.session_id for lease in leases} == {by_time, by_interrupt}


async def _suspect(store: Store, mode: SessionMode = SessionMode.AUTONOMOUS) -> SessionId:
    session_id = await store.session(mode)
    await _set_attempts(store, session_id, 2)
    return session_id


async def _set_attempts(store: Store, session_id: SessionId, attempts: int) -> None:
    async with store.own_connection() as connection:
        await connection.execute(
            "UPDATE sessions SET attempts = $2 WHERE session_id = $1", session_id, attempts
        )


async def _set_not_before(store: Store, session_id: SessionId, time: str) -> None:
    async with store.own_connection() as connection:
        await connection.execute(
            f"UPDATE sessions SET not_before = '{time}' WHERE session_id = $1", session_id
        )


async def _attempts(store: Store, session_id: SessionId) -> object:
    async with store.own_connection() as connection:
        return await connection.fetchval("SELECT attempts FROM sessions WHERE session_id = $1", session_id)


async def _holder(store: Store, session_id: SessionId) -> ReplicaId:
    async with store.own_connection() as connection:
        holder = await connection.fetchval(
            "SELECT lease_owner FROM sessions WHERE session_id = $1", session_id
        )
    return ReplicaId(holder)
