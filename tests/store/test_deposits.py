import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from agent_service.domain import InterruptState, SessionId, new_id
from agent_service.errors import (
    InvalidField,
    RequestIdReused,
    SessionEnded,
    SessionNotFound,
    TooManyPending,
    Unavailable,
)
from agent_service.settings import Limits
from agent_service.store import deposits
from agent_service.store.database import Database
from agent_service.store.deposits import Deposited
from tests.support import Store, deposit, open_store, until_blocked


async def test_a_deposit_is_in_the_database_when_it_is_acknowledged(store: Store) -> None:
    session_id = await store.session()
    deposited = await store.deposits.deposit(deposit(session_id, "Look north."))
    assert not deposited.duplicate
    assert await store.streams.interrupt(deposited.interrupt.interrupt_id) == deposited.interrupt
    assert deposited.interrupt.state is InterruptState.PENDING


async def test_the_same_request_id_gives_the_same_interrupt_in_its_current_state(store: Store) -> None:
    session_id = await store.session()
    post = deposit(session_id)
    first = await store.deposits.deposit(post)
    await store.sessions.end(session_id)
    again = await store.deposits.deposit(post)
    assert again.duplicate
    assert again.interrupt.interrupt_id == first.interrupt.interrupt_id
    assert again.interrupt.state is InterruptState.CANCELLED


async def test_the_same_request_id_with_another_body_is_refused(store: Store) -> None:
    session_id = await store.session()
    await store.nudge(session_id, "Look north.", request_id="r")
    with pytest.raises(RequestIdReused):
        await store.nudge(session_id, "Look south.", request_id="r")


async def test_an_ended_session_takes_no_new_deposit(store: Store) -> None:
    session_id = await store.session()
    await store.sessions.end(session_id)
    with pytest.raises(SessionEnded):
        await store.nudge(session_id)
    assert await store.streams.newest_revision(session_id) == 2


async def test_an_unknown_session_is_named(store: Store) -> None:
    with pytest.raises(SessionNotFound):
        await store.nudge(SessionId(new_id()))


async def test_an_expire_time_in_the_past_is_refused_but_not_to_a_retry(store: Store) -> None:
    session_id = await store.session()
    with pytest.raises(InvalidField, match=r"interrupt\.expire_time"):
        await store.nudge(session_id, expire_time=datetime.now(UTC) - timedelta(seconds=1))


async def test_what_arrives_together_is_one_transaction(store: Store) -> None:
    session_id = await store.session()
    posts = [deposit(session_id, str(n)) for n in range(20)]
    results = await asyncio.gather(*(store.deposits.deposit(post) for post in posts))
    assert [r.interrupt.posted.revision for r in results] == list(range(2, 22))
    assert len({r.interrupt.posted.time for r in results}) <= 2


async def test_the_same_post_twice_in_one_batch_is_deposited_once(store: Store) -> None:
    session_id = await store.session()
    post = deposit(session_id)
    first, second = await asyncio.gather(store.deposits.deposit(post), store.deposits.deposit(post))
    assert first.interrupt.interrupt_id == second.interrupt.interrupt_id
    assert (first.duplicate, second.duplicate) == (False, True)


async def test_one_bad_item_of_a_batch_fails_alone(store: Store) -> None:
    good, ended = await store.session(), await store.session()
    await store.sessions.end(ended)
    results = await asyncio.gather(
        *(store.deposits.deposit(deposit(s)) for s in (good, ended, SessionId(new_id()), good)),
        return_exceptions=True,
    )
    assert isinstance(results[1], SessionEnded)
    assert isinstance(results[2], SessionNotFound)
    assert await store.streams.newest_revision(good) == 3


async def test_a_coalesce_key_supersedes_the_pending_one_of_the_same_source(store: Store) -> None:
    session_id = await store.session()
    old = await store.nudge(session_id, "10 %", coalesce_key="progress")
    other = await store.nudge(session_id, "10 %", coalesce_key="progress", source="user:ryan")
    new = await store.nudge(session_id, "20 %", coalesce_key="progress")
    states = [(await store.streams.interrupt(i.interrupt_id)).state for i in (old, other, new)]
    assert states == [InterruptState.SUPERSEDED, InterruptState.PENDING, InterruptState.PENDING]
    assert (await store.sessions.get(session_id)).outstanding == 2


async def test_a_coalesce_key_supersedes_within_one_batch(store: Store) -> None:
    session_id = await store.session()
    posts = [deposit(session_id, str(n), coalesce_key="progress") for n in range(3)]
    results = await asyncio.gather(*(store.deposits.deposit(post) for post in posts))
    last = [(await store.streams.interrupt(r.interrupt.interrupt_id)).state for r in results]
    assert last == [InterruptState.SUPERSEDED, InterruptState.SUPERSEDED, InterruptState.PENDING]
    assert (await store.sessions.get(session_id)).outstanding == 1


async def test_the_limits_on_pending_interrupts_name_themselves(database: Database) -> None:
    limits = Limits(max_text_bytes=1, max_data_bytes=1, max_pending=3, max_pending_per_source=2)
    async with open_store(database, limits) as store:
        session_id = await store.session()
        first = deposit(session_id)
        await store.deposits.deposit(first)
        await store.nudge(session_id, coalesce_key="k")
        with pytest.raises(TooManyPending) as of_source:
            await store.nudge(session_id)
        await store.nudge(session_id, coalesce_key="k")
        await store.nudge(session_id, source="user:ryan")
        with pytest.raises(TooManyPending) as of_session:
            await store.nudge(session_id, source="user:ana")
        assert of_source.value.limit_name == "SPARK_MAX_PENDING_PER_SOURCE"
        assert of_session.value.limit_name == "SPARK_MAX_PENDING"
        assert (await store.deposits.deposit(first)).duplicate


async def test_a_post_that_waits_for_the_lock_sees_the_duplicate_committed_meanwhile(store: Store) -> None:
    """Naive: look the request id up in the snapshot of the statement that waits for the session's row."""
    session_id = await store.session()
    post = deposit(session_id)
    async with store.own_connection() as holder, open_store(store.database) as other:
        async with holder.transaction():
            await holder.execute("SELECT FROM sessions WHERE session_id = $1 FOR UPDATE", session_id)
            waiting = [
                asyncio.create_task(store.deposits.deposit(post)),
                asyncio.create_task(other.deposits.deposit(post)),
            ]
            await until_blocked(store, 2)
        first, second = await asyncio.gather(*waiting)
    assert {first.duplicate, second.duplicate} == {False, True}
    assert first.interrupt.interrupt_id == second.interrupt.interrupt_id
    assert (await store.sessions.get(session_id)).outstanding == 1
    assert await store.streams.newest_revision(session_id) == 2


async def test_a_post_that_waits_for_the_lock_sees_the_end_committed_meanwhile(store: Store) -> None:
    session_id = await store.session()
    async with store.own_connection() as holder:
        async with holder.transaction():
            await holder.execute("UPDATE sessions SET state = 'ended' WHERE session_id = $1", session_id)
            waiting = asyncio.create_task(store.nudge(session_id))
            await until_blocked(store)
        with pytest.raises(SessionEnded):
            await waiting


async def test_a_held_session_delays_its_own_posts_and_no_others(store: Store) -> None:
    held, free = await store.session(), await store.session()
    async with store.own_connection() as holder:
        async with holder.transaction():
            await holder.execute("SELECT FROM sessions WHERE session_id = $1 FOR UPDATE", held)
            waiting = asyncio.create_task(store.nudge(held))
            await until_blocked(store)
            assert (await store.nudge(free)).state is InterruptState.PENDING
            assert not waiting.done()
        assert (await waiting).state is InterruptState.PENDING


async def test_sixteen_writers_with_overlapping_sessions_do_not_deadlock_and_leave_no_holes(
    store: Store,
) -> None:
    """Each a replica of its own: within one, group commit keeps the order."""
    sessions, writers = [await store.session() for _ in range(8)], 16

    async def write(writer: int) -> None:
        async with open_store(store.database) as mine:
            for n in range(3):
                order = sessions if (writer + n) % 2 else sessions[::-1]
                await asyncio.gather(*(mine.nudge(session_id) for session_id in order))

    await asyncio.gather(*(write(n) for n in range(writers)))
    for session_id in sessions:
        assert (await store.kinds(session_id)).count("interrupt_posted") == writers * 3


async def test_a_caller_that_goes_away_takes_no_others_with_it(store: Store) -> None:
    session_id = await store.session()
    gone = asyncio.create_task(store.nudge(session_id, "gone"))
    stays = asyncio.create_task(store.nudge(session_id, "stays"))
    await asyncio.sleep(0)
    gone.cancel()
    assert (await stays).state is InterruptState.PENDING


async def test_posts_to_a_held_session_leave_connections_to_others_and_keep_their_order(store: Store) -> None:
    held, free = await store.session(), await store.session()
    async with store.own_connection() as holder:
        async with holder.transaction():
            await holder.execute("SELECT FROM sessions WHERE session_id = $1 FOR UPDATE", held)
            waiting = [asyncio.create_task(store.nudge(held, str(n), coalesce_key="k")) for n in range(30)]
            await until_blocked(store)
            assert (await store.nudge(free)).state is InterruptState.PENDING
            assert await store.leases.claim_due(await store.replica(), 10)
        posted = await asyncio.gather(*waiting)
    revisions = [interrupt.posted.revision for interrupt in posted]
    assert revisions == sorted(revisions)
    states = [(await store.streams.interrupt(i.interrupt_id)).state for i in posted]
    assert states == [InterruptState.SUPERSEDED] * 29 + [InterruptState.PENDING]


async def test_however_many_rows_are_held_an_unknown_session_is_named_at_once_and_a_free_one_served(
    store: Store,
) -> None:
    held = [await store.session() for _ in range(5)]
    short, free = await store.session(), await store.session()
    async with store.own_connection() as holder, store.own_connection() as briefly:
        async with holder.transaction():
            await holder.execute("SELECT FROM sessions WHERE session_id = ANY ($1) FOR UPDATE", held)
            waiting = [asyncio.create_task(store.nudge(session_id)) for session_id in held]
            await until_blocked(store, 3)
            async with briefly.transaction():
                await briefly.execute("SELECT FROM sessions WHERE session_id = $1 FOR UPDATE", short)
                delayed = asyncio.create_task(store.nudge(short))
                await store.nudge(free)
                assert not delayed.done()
            assert (await delayed).state is InterruptState.PENDING
            with pytest.raises(SessionNotFound):
                await store.nudge(SessionId(new_id()))
            assert not any(task.done() for task in waiting)
        await asyncio.gather(*waiting)


async def test_a_later_post_does_not_overtake_one_that_waits(store: Store) -> None:
    session_id = await store.session()
    async with store.own_connection() as holder:
        async with holder.transaction():
            await holder.execute("SELECT FROM sessions WHERE session_id = $1 FOR UPDATE", session_id)
            old = asyncio.create_task(store.nudge(session_id, "old", coalesce_key="k"))
            await until_blocked(store)
            new = asyncio.create_task(store.nudge(session_id, "new", coalesce_key="k"))
        first, last = await asyncio.gather(old, new)
    assert (await store.streams.interrupt(first.interrupt_id)).state is InterruptState.SUPERSEDED
    assert (await store.streams.interrupt(last.interrupt_id)).state is InterruptState.PENDING


async def test_what_one_caller_brings_has_its_outcomes_in_order_be_its_sessions_free_held_or_gone(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deposits, "HELD_SECONDS", 60)
    free, held, ended, again = [await store.session() for _ in range(4)]
    await store.sessions.end(ended)
    known = deposit(again)
    await store.deposits.deposit(known)
    session_ids = [held, free, ended, held, SessionId(new_id()), free]
    batch = [*(deposit(session_id, str(n)) for n, session_id in enumerate(session_ids)), known]
    async with store.own_connection() as holder:
        async with holder.transaction():
            await holder.execute("SELECT FROM sessions WHERE session_id = $1 FOR UPDATE", held)
            waiting = asyncio.create_task(store.deposits.deposit_all(batch))
            await until_blocked(store)
            assert await store.outstanding(free) == 2
        outcomes = await waiting
    told = [
        (one.interrupt.posted.revision, one.duplicate) if isinstance(one, Deposited) else type(one)
        for one in outcomes
    ]
    new, newer = (2, False), (3, False)
    assert told == [new, new, SessionEnded, newer, SessionNotFound, newer, (2, True)]
    assert [one.interrupt.body for one in outcomes if isinstance(one, Deposited)] == [
        one.body for one, outcome in zip(batch, outcomes, strict=True) if isinstance(outcome, Deposited)
    ]


async def test_what_waits_for_a_row_does_not_keep_the_rest_of_what_its_caller_brings(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deposits, "HELD_SECONDS", 0.01)
    free, held = await store.session(), await store.session()
    batch = [deposit(held), deposit(free), deposit(held)]
    async with store.own_connection() as holder, holder.transaction():
        await holder.execute("SELECT FROM sessions WHERE session_id = $1 FOR UPDATE", held)
        first, served, last = await store.deposits.deposit_all(batch)
    assert isinstance(served, Deposited)
    assert (type(first), type(last)) == (Unavailable, Unavailable)
    # Nothing of it is lost: whoever repeats it is told what has become of it.
    again = await store.deposits.deposit_all([batch[0], batch[2]])
    assert [isinstance(one, Deposited) and one.duplicate for one in again] == [True, True]


async def test_nothing_to_deposit_has_no_outcomes(store: Store) -> None:
    assert await store.deposits.deposit_all([]) == []


async def test_of_more_than_a_session_takes_the_first_are_posted(database: Database) -> None:
    limits = Limits(max_text_bytes=1, max_data_bytes=1, max_pending=3, max_pending_per_source=3)
    async with open_store(database, limits) as store:
        full, roomy = await store.session(), await store.session()
        batch = [deposit(session_id) for session_id in [full, full, roomy, full, full, roomy]]
        outcomes = await store.deposits.deposit_all(batch)
    assert [type(outcome) for outcome in outcomes] == [Deposited] * 4 + [TooManyPending, Deposited]
