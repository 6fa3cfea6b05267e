import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from agent_service.domain import InterruptState, SessionId, SessionMode, SessionState
from agent_service.errors import Unavailable
from agent_service.loop.dispatcher import Dispatcher
from agent_service.loop.lease_keeper import LeaseKeeper
from agent_service.loop.spread import Spread
from agent_service.model import Chunk
from agent_service.store.leases import SUSPECT_ATTEMPTS, Claim
from tests.loop.scripted import ScriptedModel, agent, says
from tests.store.takeovers import attempts_of, set_attempts
from tests.support import Store, open_store, until

HOURS = 3600.0


@asynccontextmanager
async def dispatching(
    store: Store,
    run: Callable[[Claim], Awaitable[None]],
    poll_seconds: float = 0.1,
    lease_seconds: float = 60,
    stopping: asyncio.Event | None = None,
    max_sessions: int = 100,
) -> AsyncIterator[tuple[Dispatcher, LeaseKeeper]]:
    async with (
        LeaseKeeper(store.database, "127.0.0.1:1", lease_seconds) as keeper,
        asyncio.TaskGroup() as tasks,
    ):
        dispatcher = Dispatcher(
            store.leases,
            store.interrupts,
            keeper,
            run,
            store.wakeups,
            Spread(),
            stopping or asyncio.Event(),
            max_sessions,
            poll_seconds,
        )
        serving = tasks.create_task(dispatcher.serve(drain_seconds=5))
        try:
            yield dispatcher, keeper
        finally:
            dispatcher.stop()
            await serving


async def test_a_deposit_wakes_a_sleeping_session_without_a_poll(store: Store) -> None:
    session_id = await store.session(SessionMode.ON_INTERRUPT)
    async with dispatching(store, agent(store, ScriptedModel([says("Yes.")])).run, poll_seconds=HOURS):
        nudge = await store.nudge(session_id)

        async def seen() -> bool:
            return (await store.streams.interrupt(nudge.interrupt_id)).state is InterruptState.SEEN

        await until(seen)


async def test_a_deposit_whose_hint_is_lost_is_found_by_the_poll(store: Store) -> None:
    session_id = await store.session(SessionMode.ON_INTERRUPT)
    store.wakeups.listen = lambda listener: None  # type: ignore[method-assign]
    async with dispatching(store, agent(store, ScriptedModel([says("Yes.")])).run):
        nudge = await store.nudge(session_id)

        async def seen() -> bool:
            return (await store.streams.interrupt(nudge.interrupt_id)).state is InterruptState.SEEN

        await until(seen)


async def test_a_replica_that_may_have_missed_hints_looks_without_a_poll(store: Store) -> None:
    claimed: asyncio.Queue[SessionId] = asyncio.Queue()
    over = asyncio.Event()

    async def run(claim: Claim) -> None:
        await claimed.put(claim.lease.session_id)
        await over.wait()

    first_id = await store.session()
    async with dispatching(store, run, poll_seconds=HOURS), open_store(store.database) as another:
        assert await claimed.get() == first_id
        second_id = await another.session()
        store.wakeups.scan()
        assert await claimed.get() == second_id
        over.set()


async def test_what_expires_in_a_paused_session_is_settled_by_a_poll(store: Store) -> None:
    session_id = await store.session()
    async with store.database.connection() as connection:
        await connection.execute("UPDATE sessions SET state = 'paused'")
    nudge = await store.overdue(session_id)
    async with dispatching(store, agent(store, ScriptedModel([])).run):

        async def expired() -> bool:
            return (await store.streams.interrupt(nudge.interrupt_id)).state is InterruptState.EXPIRED

        await until(expired)


async def test_a_post_in_the_gap_between_busy_and_idle_is_not_missed(store: Store) -> None:
    """Posts to a session that runs hint to nobody: the end of its run looks once more."""
    session_id = await store.session(SessionMode.ON_INTERRUPT)
    model = ScriptedModel([says("Yes.") for _ in range(60)])
    async with dispatching(store, agent(store, model).run, poll_seconds=HOURS):
        nudges = []
        for n in range(30):
            nudges.append(await store.nudge(session_id, str(n)))
            for _ in range(n * 3):
                await asyncio.sleep(0)

        async def all_seen() -> bool:
            return await store.outstanding(session_id) == 0

        await until(all_seen)
    kinds = await store.kinds(session_id)
    assert kinds.count("interrupt_delivered") == kinds.count("interrupt_seen") == 30


async def test_a_session_forgotten_by_its_worker_is_taken_again_under_a_new_epoch(store: Store) -> None:
    session_id = await store.session()
    model = ScriptedModel([says("Yes.")])
    claims: list[Claim] = []

    async def run(claim: Claim) -> None:
        claims.append(claim)
        if len(claims) == 1:
            raise Unavailable("the outcome of a commit is not known")
        await agent(store, model).run(claim)

    async with dispatching(store, run):

        async def done() -> bool:
            return "turn_ended" in await store.kinds(session_id)

        await until(done)
    assert claims[1].lease.epoch > claims[0].lease.epoch
    assert await attempts_of(store, session_id) == 0


async def test_the_end_of_a_session_cuts_its_request_off(store: Store) -> None:
    session_id = await store.session()
    asked, cut_off = asyncio.Event(), asyncio.Event()

    async def hang() -> None:
        asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            cut_off.set()

    async with dispatching(store, agent(store, ScriptedModel([[Chunk("It "), hang]])).run):
        await asked.wait()
        await store.sessions.end(session_id)
        await asyncio.wait_for(cut_off.wait(), 10)
    assert (await store.kinds(session_id))[-1] == "session_changed"


async def test_a_replica_whose_lease_lapsed_stops_its_turns_and_goes_on_as_another(store: Store) -> None:
    session_id = await store.session()
    asked, cut_off = asyncio.Event(), asyncio.Event()

    async def hang() -> None:
        asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            cut_off.set()

    model = ScriptedModel([[Chunk("It "), hang], says("It is late.")])
    async with dispatching(store, agent(store, model).run, lease_seconds=1.5) as (_, keeper):
        await asked.wait()
        before = keeper.replica
        assert before
        await store.leases.sign_off(before)
        await asyncio.wait_for(cut_off.wait(), 10)

        async def done() -> bool:
            return "turn_ended" in await store.kinds(session_id)

        await until(done)
        assert keeper.replica != before


async def test_a_lease_that_lapsed_in_a_living_replica_is_not_held_against_its_sessions(store: Store) -> None:
    """The database was away, nobody died."""
    await store.session()
    claims: list[Claim] = []

    async def run(claim: Claim) -> None:
        claims.append(claim)
        await asyncio.Event().wait()

    async with dispatching(store, run, lease_seconds=1):
        for times in (1, 2, 3):

            async def ran(times: int = times) -> bool:
                return len(claims) >= times

            await until(ran)
            async with store.database.connection() as connection:
                await connection.execute("UPDATE replicas SET lease_until = now()")
    async with store.database.connection() as connection:
        assert await connection.fetchval("SELECT attempts FROM sessions") == 0


async def test_a_poll_that_fails_for_an_unknown_reason_is_not_the_last(store: Store) -> None:
    claimed = asyncio.Event()

    async def run(claim: Claim) -> None:
        claimed.set()

    async def rename(old: str, new: str) -> None:
        async with store.own_connection() as connection:
            await connection.execute(f"ALTER TABLE {old} RENAME TO {new}")

    async with dispatching(store, run):
        await rename("replicas", "lost")
        await store.session()
        with capture_logs() as logs:

            async def failed() -> bool:
                return any(line["event"] == "nothing claimed" for line in logs)

            await until(failed)
        await rename("lost", "replicas")
        await asyncio.wait_for(claimed.wait(), 10)


async def test_stopping_hands_open_turns_over_and_signs_off(store: Store) -> None:
    session_id = await store.session()
    asked, go_on, stopping = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        asked.set()
        await go_on.wait()

    run = agent(store, ScriptedModel([[Chunk("Well. "), wait]]), stopping).run
    async with dispatching(store, run, stopping=stopping) as (dispatcher, keeper):
        await asked.wait()
        replica = keeper.replica
        assert replica
        other = await store.replica()
        assert [load.max_sessions for load in await store.leases.others(other)] == [100]
        dispatcher.stop()

        async def takes_no_more() -> bool:
            return [load.max_sessions for load in await store.leases.others(other)] == [0]

        await until(takes_no_more)
        go_on.set()
    reading = await store.sessions.get(session_id)
    assert reading.session.state is SessionState.ACTIVE
    assert await store.leases.held(replica) == set()
    assert await store.claim(session_id)


async def test_stopping_gives_back_what_was_handed_over_and_not_begun(store: Store) -> None:
    session_id = await store.session()
    work = await store.open_turn(session_id)
    async with dispatching(store, agent(store, ScriptedModel([])).run, poll_seconds=HOURS) as (_, keeper):

        async def takes_sessions() -> bool:
            loads = await store.leases.others(await store.replica())
            return any(load.max_sessions for load in loads)

        await until(takes_sessions)
        await store.transcript.release(work.lease, keeper.replica)
    assert await store.claim(session_id)
    assert await attempts_of(store, session_id) == 0


@pytest.mark.parametrize("how", ["lost", "of the dead", "suspect"])
async def test_what_stands_still_gets_the_next_place_of_a_full_replica(store: Store, how: str) -> None:
    """Naive: give each place that becomes free to what is due, which is always something."""
    victim = await store.session()
    if how != "lost":
        dead = await store.replica()
        await store.leases.claim_due(dead, 1)
        await store.leases.sign_off(dead)
    if how == "suspect":
        await set_attempts(store, victim, SUSPECT_ATTEMPTS)
    for _ in range(3):
        await store.session()
    is_lost, has_run = how == "lost", asyncio.Event()

    async def run(claim: Claim) -> None:
        nonlocal is_lost
        if claim.lease.session_id == victim:
            if is_lost:
                is_lost = False
                raise Unavailable("the outcome of a commit is not known")
            has_run.set()
        await store.transcript.release(claim.lease)

    async with dispatching(store, run, max_sessions=1), asyncio.timeout(20):
        await has_run.wait()


async def test_no_more_sessions_are_run_than_the_limit_allows(store: Store) -> None:
    for _ in range(5):
        await store.session()
    running, most, release = 0, 0, asyncio.Event()

    async def run(claim: Claim) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await release.wait()
        running -= 1

    async with LeaseKeeper(store.database, "127.0.0.1:1", 60) as keeper, asyncio.TaskGroup() as tasks:
        dispatcher = Dispatcher(
            store.leases, store.interrupts, keeper, run, store.wakeups, Spread(), asyncio.Event(), 2, 0.05
        )
        tasks.create_task(dispatcher.serve(5))

        async def full() -> bool:
            return running == 2

        await until(full)
        release.set()
        dispatcher.stop()
    assert most == 2
