import asyncio

import pytest

from agent_service.domain import Interrupt, InterruptState, MessageId, SessionId, SessionMode, new_id
from agent_service.errors import InterruptNotFound, InterruptNotPending, SessionNotFound
from agent_service.store.safe_points import SafePoint
from tests.support import Store, admit_all, in_order, until


async def listed(store: Store, session_id: SessionId, *states: InterruptState) -> list[MessageId]:
    return [found.interrupt_id for found in await store.interrupts.page(session_id, 0, 100, states)]


async def one_of_each(store: Store, session_id: SessionId) -> dict[InterruptState, MessageId]:
    """An interrupt in each state but expired, which takes time."""
    seen = await store.nudge(session_id, "seen")
    work = await store.open_turn(session_id)
    await store.transcript.see(work.lease, [seen.interrupt_id])
    delivered = await store.nudge(session_id, "delivered")
    assert await store.safe_points.begin_round(work.lease, work.next_position, 2, admit_all)
    superseded = await store.nudge(session_id, "superseded", coalesce_key="k")
    pending = await store.nudge(session_id, "pending", coalesce_key="k")
    cancelled = await store.nudge(session_id, "cancelled")
    await store.interrupts.cancel(cancelled.interrupt_id)
    return {
        InterruptState.SEEN: seen.interrupt_id,
        InterruptState.DELIVERED: delivered.interrupt_id,
        InterruptState.SUPERSEDED: superseded.interrupt_id,
        InterruptState.PENDING: pending.interrupt_id,
        InterruptState.CANCELLED: cancelled.interrupt_id,
    }


async def swept_until_expired(store: Store, interrupt: Interrupt) -> None:
    """Sweep until the interrupt's time is over."""

    async def expired() -> bool:
        await store.interrupts.expire(100)
        return (await store.streams.interrupt(interrupt.interrupt_id)).state is InterruptState.EXPIRED

    await until(expired)


async def set_state(store: Store, session_id: SessionId, state: str) -> None:
    async with store.database.connection() as connection:
        await connection.execute("UPDATE sessions SET state = $2 WHERE session_id = $1", session_id, state)


class TestAListing:
    async def test_has_the_interrupts_of_its_session_in_the_order_of_their_deposit(
        self, store: Store
    ) -> None:
        session_id, other = await store.session(), await store.session()
        posted = [(await store.nudge(session_id, str(n))).interrupt_id for n in range(3)]
        await store.nudge(other)
        assert await listed(store, session_id) == posted

    async def test_keeps_what_is_in_one_of_the_states(self, store: Store) -> None:
        session_id = await store.session()
        by_state = await one_of_each(store, session_id)
        for state, interrupt_id in by_state.items():
            assert await listed(store, session_id, state) == [interrupt_id]
        assert await listed(store, session_id, InterruptState.PENDING, InterruptState.SEEN) == [
            by_state[InterruptState.SEEN],
            by_state[InterruptState.PENDING],
        ]
        assert await listed(store, session_id) == list(by_state.values())
        assert await listed(store, session_id, InterruptState.EXPIRED) == []

    async def test_goes_on_after_a_revision(self, store: Store) -> None:
        session_id = await store.session()
        posted = [await store.nudge(session_id, str(n)) for n in range(5)]
        first = await store.interrupts.page(session_id, 0, 2, ())
        rest = await store.interrupts.page(session_id, first[-1].posted.revision, 10, ())
        assert first + rest == posted

    async def test_of_an_unknown_session_names_it(self, store: Store) -> None:
        with pytest.raises(SessionNotFound):
            await store.interrupts.page(SessionId(new_id()), 0, 10, ())
        with pytest.raises(SessionNotFound):
            await store.streams.messages(SessionId(new_id()), 0, 10, 1000)


class TestCancelling:
    async def test_settles_a_pending_interrupt_with_one_event(self, store: Store) -> None:
        session_id = await store.session(SessionMode.ON_INTERRUPT)
        nudge = await store.nudge(session_id)
        cancelled = await store.interrupts.cancel(nudge.interrupt_id)
        assert cancelled.state is InterruptState.CANCELLED
        assert cancelled.settled
        assert cancelled.settled.reason == "on request"
        assert cancelled == await store.streams.interrupt(nudge.interrupt_id)
        assert await store.kinds(session_id) == ["session_changed", "interrupt_posted", "interrupt_settled"]
        assert await store.outstanding(session_id) == 0
        assert await store.leases.claim_due(await store.replica(), 10) == []

    async def test_hints_after_the_commit(self, store: Store) -> None:
        session_id = await store.session()
        nudge = await store.nudge(session_id)
        with store.wakeups.watch(session_id) as watch:
            await store.interrupts.cancel(nudge.interrupt_id)
            assert await watch.wait(3600)

    async def test_again_changes_nothing(self, store: Store) -> None:
        session_id = await store.session()
        nudge = await store.nudge(session_id)
        first = await store.interrupts.cancel(nudge.interrupt_id)
        assert await store.interrupts.cancel(nudge.interrupt_id) == first
        assert (await store.kinds(session_id)).count("interrupt_settled") == 1

    async def test_is_refused_unless_the_interrupt_is_pending(self, store: Store) -> None:
        session_id = await store.session()
        by_state = await one_of_each(store, session_id)
        before = await store.kinds(session_id)
        for state in (InterruptState.DELIVERED, InterruptState.SEEN, InterruptState.SUPERSEDED):
            with pytest.raises(InterruptNotPending):
                await store.interrupts.cancel(by_state[state])
        assert await store.kinds(session_id) == before

    async def test_names_an_interrupt_that_does_not_exist(self, store: Store) -> None:
        with pytest.raises(InterruptNotFound):
            await store.interrupts.cancel(MessageId(new_id()))

    async def test_that_comes_before_a_delivery_wins(self, store: Store) -> None:
        session_id = await store.session()
        work = await store.open_turn(session_id)
        nudge = await store.nudge(session_id)
        cancelled, point = await in_order(
            store,
            session_id,
            lambda: store.interrupts.cancel(nudge.interrupt_id),
            lambda: store.safe_points.begin_round(work.lease, work.next_position, 2, admit_all),
        )
        assert isinstance(cancelled, Interrupt)
        assert cancelled.state is InterruptState.CANCELLED
        assert isinstance(point, SafePoint)
        assert point.rows == ()
        assert "interrupt_delivered" not in await store.kinds(session_id)
        assert await store.outstanding(session_id) == 0

    async def test_that_comes_after_a_delivery_is_refused(self, store: Store) -> None:
        """Naive: test for pending in the statement that waits for the row, as of before the wait."""
        session_id = await store.session()
        work = await store.open_turn(session_id)
        nudge = await store.nudge(session_id)
        point, refused = await in_order(
            store,
            session_id,
            lambda: store.safe_points.begin_round(work.lease, work.next_position, 2, admit_all),
            lambda: store.interrupts.cancel(nudge.interrupt_id),
        )
        assert isinstance(point, SafePoint)
        assert [row.message_id for row in point.rows] == [nudge.interrupt_id]
        assert isinstance(refused, InterruptNotPending)
        assert "interrupt_settled" not in await store.kinds(session_id)
        assert await store.outstanding(session_id) == 1


class TestASweep:
    @pytest.mark.parametrize("state", ["paused", "failed"])
    async def test_settles_what_has_expired_in_a_session_that_may_not_work(
        self, store: Store, state: str
    ) -> None:
        session_id = await store.session()
        await set_state(store, session_id, state)
        lasting, soon = await store.nudge(session_id), await store.overdue(session_id)
        await swept_until_expired(store, soon)
        assert await listed(store, session_id, InterruptState.PENDING) == [lasting.interrupt_id]
        assert (await store.kinds(session_id))[-1] == "interrupt_settled"
        assert await store.outstanding(session_id) == 1

    async def test_hints_after_the_commit(self, store: Store) -> None:
        session_id = await store.session()
        soon = await store.overdue(session_id)
        with store.wakeups.watch(session_id) as watch:
            await swept_until_expired(store, soon)
            assert await watch.wait(3600)

    async def test_leaves_what_was_delivered(self, store: Store) -> None:
        session_id = await store.session()
        delivered = await store.nudge(session_id)
        await store.open_turn(session_id)
        async with store.database.connection() as connection:
            await connection.execute("UPDATE messages SET expire_time = now() WHERE type = 'system'")
        other = await store.overdue(session_id)
        await swept_until_expired(store, other)
        assert await listed(store, session_id, InterruptState.DELIVERED) == [delivered.interrupt_id]

    async def test_by_several_replicas_at_once_settles_each_once(self, store: Store) -> None:
        session_ids = [await store.session(SessionMode.ON_INTERRUPT) for _ in range(4)]
        soon = [await store.overdue(session_id, str(n)) for n in range(5) for session_id in session_ids]

        async def all_expired() -> bool:
            await asyncio.gather(*(store.interrupts.expire(100) for _ in range(4)))
            return not any([await store.outstanding(session_id) for session_id in session_ids])

        await until(all_expired)
        for session_id in session_ids:
            assert (await store.kinds(session_id)).count("interrupt_settled") == 5
        assert {(await store.streams.interrupt(one.interrupt_id)).state for one in soon} == {
            InterruptState.EXPIRED
        }

    async def test_takes_no_more_than_it_is_told_to(self, store: Store) -> None:
        session_id = await store.session(SessionMode.ON_INTERRUPT)
        for n in range(3):
            await store.overdue(session_id, str(n))
        left = []
        for _ in range(3):
            await store.interrupts.expire(2)
            left.append(await store.outstanding(session_id))
        assert left == [1, 0, 0]

    async def test_leaves_a_session_that_somebody_else_has_at_work_for_the_next(self, store: Store) -> None:
        busy, free = await store.session(SessionMode.ON_INTERRUPT), await store.session()
        in_busy, in_free = await store.overdue(busy), await store.overdue(free)
        async with store.own_connection() as holder, holder.transaction():
            await holder.execute("SELECT FROM sessions WHERE session_id = $1 FOR UPDATE", busy)
            await swept_until_expired(store, in_free)
            assert await listed(store, busy, InterruptState.PENDING) == [in_busy.interrupt_id]
        await swept_until_expired(store, in_busy)
