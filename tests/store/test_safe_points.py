import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from agent_service.domain import (
    Delivery,
    Interrupt,
    InterruptState,
    Lease,
    Place,
    SessionMode,
    Usage,
)
from agent_service.errors import LeaseLost
from agent_service.store.database import open_database
from agent_service.store.safe_points import SafePoint
from agent_service.store.standing import MAX_READ
from tests.support import Store, admit_all, assistant, in_order, open_store, terms, until

HOUR = timedelta(hours=1)

# As with a standby that is waited for. Longer than what was read is fresh.
_SLOW_COMMITS = """
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_sleep(1.1); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER slow AFTER UPDATE ON sessions DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION slow()"""


async def test_a_turn_opens_with_its_first_delivery_in_one_transaction(store: Store) -> None:
    session_id = await store.session()
    first, second = await store.nudge(session_id, "one"), await store.nudge(session_id, "two")
    lease = await store.claim(session_id)
    point = await store.begin_turn(lease)
    assert point
    assert point.place == Place(1, 0, 1)
    assert [row.message_id for row in point.rows] == [first.interrupt_id, second.interrupt_id]
    assert [row.position for row in point.rows] == [1, 2]
    kinds = await store.kinds(session_id)
    assert kinds[3:] == ["turn_started", "interrupt_delivered", "interrupt_delivered"]
    for row in point.rows:
        assert await store.streams.interrupt(row.message_id) == row.content


async def test_a_turn_opens_by_what_was_loaded_unless_something_has_come_between(store: Store) -> None:
    """Naive: write what follows from the session as it was loaded, whatever it is by now."""
    session_id = await store.session()
    first = await store.nudge(session_id, "one")
    lease = await store.claim(session_id)
    loaded = (await store.load(lease)).standing
    second = await store.nudge(session_id, "two")
    point = await store.safe_points.begin_turn(lease, loaded, terms, admit_all)
    assert point
    assert [row.message_id for row in point.rows] == [first.interrupt_id, second.interrupt_id]
    assert point.revision == len(await store.kinds(session_id))


async def test_a_session_that_is_paused_after_it_was_loaded_opens_no_turn(store: Store) -> None:
    session_id = await store.session()
    lease = await store.claim(session_id)
    loaded = (await store.load(lease)).standing
    await store.sessions.pause(session_id)
    assert await store.safe_points.begin_turn(lease, loaded, terms, admit_all) is None
    assert "turn_started" not in await store.kinds(session_id)


async def test_what_was_loaded_a_while_ago_is_read_again(store: Store) -> None:
    """Whatever expires changes no revision."""
    session_id = await store.session()
    nudge = await store.nudge(session_id, expire_time=datetime.now(UTC) + HOUR)
    lease = await store.claim(session_id)
    loaded = (await store.load(lease)).standing
    async with store.database.connection() as connection:
        await connection.execute("UPDATE messages SET expire_time = now()")
    long_ago = replace(loaded, read_at=loaded.read_at - HOUR.total_seconds())
    point = await store.safe_points.begin_turn(lease, long_ago, terms, admit_all)
    assert point
    assert point.rows == ()
    assert (await store.streams.interrupt(nudge.interrupt_id)).state is InterruptState.EXPIRED


async def test_what_has_become_old_while_all_connections_were_busy_is_read_again(
    store: Store, database_url: str
) -> None:
    """Naive: deliver, by what was loaded, an interrupt that has expired since."""
    session_id = await store.session()
    nudge = await store.nudge(session_id, expire_time=datetime.now(UTC) + timedelta(seconds=1))
    claim = await store.take(session_id)
    loaded = (await store.transcript.load(claim)).standing

    async def is_old() -> bool:
        return not loaded.is_fresh and datetime.now(UTC) > nudge.expire_time

    async with open_database(database_url, pool_size=1) as database, open_store(database) as busy:
        async with database.connection():
            begun = asyncio.create_task(busy.safe_points.begin_turn(claim.lease, loaded, terms, admit_all))
            await until(is_old)
        assert await begun
    assert (await store.streams.interrupt(nudge.interrupt_id)).state is InterruptState.EXPIRED


async def test_a_reading_is_as_old_as_the_claim_that_asked_for_it(store: Store) -> None:
    """Naive: count from when its commit was over."""
    session_id = await store.session()
    async with store.own_connection() as connection:
        await connection.execute(_SLOW_COMMITS)
        claim = await store.take(session_id)
        await connection.execute("DROP FUNCTION slow CASCADE")
    assert not (await store.transcript.load(claim)).standing.is_fresh


async def test_delivery_leaves_the_interrupt_outstanding_until_it_is_seen(store: Store) -> None:
    session_id = await store.session()
    nudge = await store.nudge(session_id)
    work = await store.open_turn(session_id)
    assert await store.outstanding(session_id) == 1
    await store.transcript.see(work.lease, [nudge.interrupt_id])
    assert await store.outstanding(session_id) == 0
    assert (await store.streams.interrupt(nudge.interrupt_id)).state is InterruptState.SEEN


async def test_next_turn_waits_for_a_turns_start(store: Store) -> None:
    session_id = await store.session()
    work = await store.open_turn(session_id)
    later = await store.nudge(session_id, "later", delivery=Delivery.NEXT_TURN)
    now = await store.nudge(session_id, "now")
    point = await store.safe_points.begin_round(work.lease, work.next_position, 1, admit_all)
    assert point
    assert [row.message_id for row in point.rows] == [now.interrupt_id]
    await store.transcript.see(work.lease, [now.interrupt_id])
    await store.transcript.append_answer(
        work.lease, work.next_position + 1, work.place, [assistant("Done.")], Usage()
    )
    lease = await store.claim(session_id)
    point = await store.begin_turn(lease)
    assert point
    assert [row.message_id for row in point.rows] == [later.interrupt_id]


async def test_a_round_tried_again_is_the_same_round_in_a_new_attempt(store: Store) -> None:
    work = await store.open_turn(await store.session())
    again = await store.safe_points.begin_round(work.lease, work.next_position, 1, admit_all)
    after = await store.safe_points.begin_round(work.lease, work.next_position, 2, admit_all)
    assert again
    assert after
    assert (again.place, after.place) == (Place(1, 1, 2), Place(1, 2, 1))


async def test_an_expired_interrupt_is_settled_by_the_delivery_that_meets_it(store: Store) -> None:
    session_id = await store.session()
    nudge = await store.overdue(session_id)
    lease = await store.claim(session_id)
    point = await store.begin_turn(lease)
    assert point
    assert point.rows == ()
    assert (await store.streams.interrupt(nudge.interrupt_id)).state is InterruptState.EXPIRED
    assert await store.outstanding(session_id) == 0


async def test_without_something_due_no_turn_starts_and_the_session_is_released(store: Store) -> None:
    session_id = await store.session(SessionMode.ON_INTERRUPT)
    await store.overdue(session_id)
    lease = await store.claim(session_id)
    assert await store.begin_turn(lease) is None
    assert "turn_started" not in await store.kinds(session_id)
    assert await store.leases.claim_due(await store.replica(), 10) == []


async def test_a_session_that_may_not_work_is_released_with_its_turn_open(store: Store) -> None:
    session_id = await store.session()
    work = await store.open_turn(session_id)
    async with store.database.connection() as connection:
        await connection.execute("UPDATE sessions SET state = 'paused' WHERE session_id = $1", session_id)
    nudge = await store.nudge(session_id)
    assert await store.safe_points.begin_round(work.lease, work.next_position, 2, admit_all) is None
    assert (await store.streams.interrupt(nudge.interrupt_id)).state is InterruptState.PENDING
    with pytest.raises(LeaseLost):
        await store.safe_points.begin_round(work.lease, work.next_position, 2, admit_all)


async def test_a_safe_point_that_waits_for_the_lock_delivers_what_was_deposited_meanwhile(
    store: Store,
) -> None:
    """Naive: select the pending in the statement that waits for the session's row, as of before the wait."""
    session_id = await store.session()
    work = await store.open_turn(session_id)
    nudge, point = await in_order(
        store,
        session_id,
        lambda: store.nudge(session_id),
        lambda: store.safe_points.begin_round(work.lease, work.next_position, 2, admit_all),
    )
    assert isinstance(point, SafePoint)
    assert [row.message_id for row in point.rows] == [nudge.interrupt_id]
    await store.kinds(session_id)


async def test_a_safe_point_that_waits_for_the_lock_is_refused_once_somebody_else_has_the_session(
    store: Store,
) -> None:
    """Naive: compare the epoch before the wait, or not at all."""
    session_id = await store.session()
    work = await store.open_turn(session_id)
    nudge = await store.nudge(session_id)
    await _lapse(store, work.lease)

    async def take() -> list[Lease]:
        async with store.own_connection() as other:
            await other.execute(
                "UPDATE sessions SET lease_epoch = lease_epoch + 1 WHERE session_id = $1", session_id
            )
        return []

    _, refused = await in_order(
        store,
        session_id,
        take,
        lambda: store.safe_points.begin_round(work.lease, work.next_position, 2, admit_all),
    )
    assert isinstance(refused, LeaseLost)
    assert (await store.streams.interrupt(nudge.interrupt_id)).state is InterruptState.PENDING


async def test_a_holder_with_a_stale_view_of_the_transcript_is_refused(store: Store) -> None:
    work = await store.open_turn(await store.session())
    with pytest.raises(LeaseLost):
        await store.safe_points.begin_round(work.lease, work.next_position - 1, 2, admit_all)


async def test_of_a_great_many_that_wait_not_all_are_read_at_once_but_all_are_counted(store: Store) -> None:
    session_id = await store.session()
    work = await store.open_turn(session_id)
    posts = [store.nudge(session_id, str(n), source=f"user:{n % 2}") for n in range(MAX_READ + 10)]
    await asyncio.gather(*posts)
    first = await store.safe_points.begin_round(work.lease, work.next_position, 1, admit_all)
    assert first
    shown = [row.content for row in first.rows if isinstance(row.content, Interrupt)]
    assert (len(shown), shown[0].left_waiting, shown[-1].left_waiting) == (MAX_READ, 0, 10)
    position = work.next_position + MAX_READ
    second = await store.safe_points.begin_round(work.lease, position, 1, admit_all)
    assert second
    rest = [row.content for row in second.rows if isinstance(row.content, Interrupt)]
    assert (len(rest), rest[-1].left_waiting) == (10, 0)
    revisions = [interrupt.posted.revision for interrupt in shown + rest]
    assert revisions == sorted(revisions)


async def _lapse(store: Store, lease: Lease) -> None:
    async with store.own_connection() as connection:
        await connection.execute(
            "UPDATE replicas SET lease_until = '-infinity' WHERE replica_id = "
            "(SELECT lease_owner FROM sessions WHERE session_id = $1)",
            lease.session_id,
        )
