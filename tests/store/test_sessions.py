import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from agent_service.domain import (
    Activity,
    InterruptState,
    MessageType,
    NewSession,
    Place,
    RoundFailure,
    SessionConfig,
    SessionId,
    SessionMode,
    SessionState,
    Usage,
    new_id,
)
from agent_service.errors import RequestIdReused, SessionEnded, SessionNotFound
from tests.support import Store, admit_all, assistant, call, in_order, response


def new_session(
    request_id: str = "", digest: bytes = b"", labels: dict[str, str] | None = None
) -> NewSession:
    return NewSession("lamp", "Keep the lamp.", SessionConfig("demo"), labels or {}, request_id, digest)


async def test_a_new_session_is_active_and_due_at_once(store: Store) -> None:
    created = await store.sessions.create(new_session())
    assert created.session.state is SessionState.ACTIVE
    assert created.activity is Activity.QUEUED
    assert created == await store.sessions.get(created.session.session_id)


async def test_the_same_request_id_creates_one_session(store: Store) -> None:
    both = await asyncio.gather(*(store.sessions.create(new_session("r", b"1")) for _ in range(4)))
    assert len({reading.session.session_id for reading in both}) == 1
    with pytest.raises(RequestIdReused):
        await store.sessions.create(new_session("r", b"2"))


async def test_an_unknown_session_is_named(store: Store) -> None:
    for read in (store.sessions.get, store.sessions.end, store.streams.newest_revision):
        with pytest.raises(SessionNotFound):
            await read(SessionId(new_id()))


async def test_sessions_are_listed_newest_first_in_pages_that_survive_inserts(store: Store) -> None:
    ids = [(await store.sessions.create(new_session())).session.session_id for _ in range(3)]
    first = await store.sessions.page(2, None, (), {})
    await store.sessions.create(new_session())
    rest = await store.sessions.page(2, first[-1].session.session_id, (), {})
    assert [r.session.session_id for r in first + rest] == ids[::-1]


async def test_sessions_are_filtered_by_state_and_labels(store: Store) -> None:
    red = (await store.sessions.create(new_session(labels={"team": "red", "tier": "1"}))).session.session_id
    blue = (await store.sessions.create(new_session(labels={"team": "blue"}))).session.session_id
    await store.sessions.end(blue)
    by_label = await store.sessions.page(10, None, (), {"team": "red"})
    by_state = await store.sessions.page(10, None, (SessionState.ENDED,), {})
    assert [r.session.session_id for r in by_label] == [red]
    assert [r.session.session_id for r in by_state] == [blue]


async def test_the_end_settles_everything_that_is_open_and_nothing_follows_it(store: Store) -> None:
    session_id = await store.session()
    delivered = await store.nudge(session_id, "delivered")
    work = await store.open_turn(session_id)
    pending = await store.nudge(session_id, "pending")
    rows = [call("a"), call("b")]
    await store.transcript.append_reply(work.lease, work.next_position, work.place, rows, Usage())
    await store.transcript.append(work.lease, work.next_position + 2, work.place, [response("a")], Usage())
    await store.safe_points.begin_round(work.lease, work.next_position + 3, 2, admit_all)

    ended = await store.sessions.end(session_id)

    assert (ended.session.state, ended.outstanding) == (SessionState.ENDED, 0)
    assert (await store.kinds(session_id))[-1] == "session_changed"
    assert "turn_ended" in await store.kinds(session_id)
    for interrupt in (delivered, pending):
        settled = await store.streams.interrupt(interrupt.interrupt_id)
        assert settled.state is InterruptState.CANCELLED
        assert settled.settled
        assert settled.settled.reason == "the session ended"


async def test_the_end_answers_calls_that_are_open(store: Store) -> None:
    session_id = await store.session()
    work = await store.open_turn(session_id)
    rows = [call("a"), call("b")]
    await store.transcript.append_reply(work.lease, work.next_position, work.place, rows, Usage())
    await store.transcript.append(work.lease, work.next_position + 2, work.place, [response("a")], Usage())
    await store.sessions.end(session_id)
    async with store.database.connection() as connection:
        responses = await connection.fetch(
            "SELECT call_id, is_error FROM messages WHERE session_id = $1 AND type = $2 ORDER BY position",
            session_id,
            MessageType.TOOL_RESPONSE.value,
        )
    assert [(row["call_id"], row["is_error"]) for row in responses] == [("a", False), ("b", True)]
    last = (await store.streams.page(session_id, 0, 100))[-1]
    assert last.happening.session.state is SessionState.ENDED  # type: ignore[union-attr]


async def test_ending_an_ended_session_changes_nothing(store: Store) -> None:
    session_id = await store.session()
    first = await store.sessions.end(session_id)
    assert await store.sessions.end(session_id) == first


async def test_a_session_says_what_it_does_at_the_moment(store: Store) -> None:
    session_id = await store.session(SessionMode.ON_INTERRUPT)

    async def activity() -> Activity:
        return (await store.sessions.get(session_id)).activity

    assert await activity() is Activity.IDLE
    nudge = await store.nudge(session_id)
    assert await activity() is Activity.QUEUED
    work = await store.open_turn(session_id)
    assert await activity() is Activity.RUNNING
    await store.transcript.see(work.lease, [nudge.interrupt_id])
    created = (await store.sessions.get(session_id)).session.create_time
    await store.transcript.park(work.lease, created.replace(year=2199))
    assert await activity() is Activity.WAITING
    await store.sessions.end(session_id)
    assert await activity() is Activity.STOPPED


async def test_a_pause_keeps_everything_and_a_resume_goes_on_at_once(store: Store) -> None:
    session_id = await store.session(cooldown_seconds=3600)
    work = await store.open_turn(session_id)
    paused = await store.sessions.pause(session_id)
    nudge = await store.nudge(session_id)
    assert paused.session.state is SessionState.PAUSED
    assert await store.safe_points.begin_round(work.lease, work.next_position, 2, admit_all) is None
    assert await store.leases.claim_due(await store.replica(), 10) == []
    assert (await store.streams.interrupt(nudge.interrupt_id)).state is InterruptState.PENDING

    resumed = await store.sessions.resume(session_id)
    assert resumed.session.state is SessionState.ACTIVE
    assert (await store.load(await store.claim(session_id))).turn_open
    assert (await store.kinds(session_id)).count("session_changed") == 3


async def test_a_resumed_session_that_waits_for_interrupts_goes_on_waiting(store: Store) -> None:
    session_id = await store.session(SessionMode.ON_INTERRUPT)
    await store.sessions.pause(session_id)
    await store.sessions.resume(session_id)
    lease = await store.claim(session_id)
    assert await store.begin_turn(lease) is None
    assert await store.leases.claim_due(await store.replica(), 10) == []


@pytest.mark.parametrize("limits", [{"max_rounds_per_turn": 1}, {"token_budget": 100}])
async def test_a_resume_grants_as_many_rounds_and_tokens_again(store: Store, limits: dict[str, int]) -> None:
    session_id = await store.session()
    work = await store.open_turn(session_id)
    await store.sessions.update(
        session_id,
        lambda now: replace(now, config=replace(now.config, **limits)),  # type: ignore[arg-type]
    )
    lease, position = work.lease, work.next_position
    for number in (2, 3, 4):
        place, rows = Place(1, number - 1, 1), [assistant("On."), call("a"), response("a")]
        await store.transcript.append_reply(lease, position, place, rows, Usage(70, 0, 30))
        position += len(rows)
        assert await store.safe_points.begin_round(lease, position, number, admit_all) is None
        assert (await store.sessions.get(session_id)).session.state is SessionState.PAUSED
        await store.sessions.resume(session_id)
        lease = await store.claim(session_id)
        assert await store.safe_points.begin_round(lease, position, number, admit_all)


async def test_resuming_a_session_at_work_grants_it_nothing(store: Store) -> None:
    session_id = await store.session()
    work = await store.open_turn(session_id)
    await store.sessions.update(
        session_id, lambda now: replace(now, config=replace(now.config, max_rounds_per_turn=1))
    )
    await store.sessions.resume(session_id)
    assert await store.safe_points.begin_round(work.lease, work.next_position, 2, admit_all) is None


async def test_a_resume_ends_a_back_off(store: Store) -> None:
    session_id = await store.session()
    work = await store.open_turn(session_id)
    await store.transcript.fail_round(work.lease, work.place, RoundFailure.BAD_REPLY, "empty", Usage(), 3600)
    await store.sessions.pause(session_id)
    resumed = await store.sessions.resume(session_id)
    assert (resumed.activity, resumed.session.state_reason) == (Activity.QUEUED, "")
    await store.claim(session_id)


async def test_a_resumed_session_that_had_failed_is_no_suspect_any_more(store: Store) -> None:
    session_id = await store.session()
    async with store.database.connection() as connection:
        await connection.execute("UPDATE sessions SET state = 'failed', attempts = 4")
    await store.sessions.resume(session_id)
    await store.claim(session_id)


async def test_a_parked_session_is_due_at_once_when_it_is_resumed_and_not_before(store: Store) -> None:
    session_id = await store.session()
    work = await store.open_turn(session_id)
    await store.transcript.park(work.lease, datetime.now(UTC) + timedelta(hours=1))
    await store.sessions.pause(session_id)
    assert await store.leases.claim_due(await store.replica(), 10) == []
    await store.sessions.resume(session_id)
    assert (await store.load(await store.claim(session_id))).turn_open


async def test_pausing_or_resuming_again_changes_nothing_and_the_end_is_final(store: Store) -> None:
    session_id = await store.session()
    assert (await store.sessions.resume(session_id)).session.revision == 1
    assert await store.sessions.pause(session_id) == await store.sessions.pause(session_id)
    await store.sessions.end(session_id)
    for change in (store.sessions.pause, store.sessions.resume):
        with pytest.raises(SessionEnded):
            await change(session_id)
    with pytest.raises(SessionNotFound):
        await store.sessions.pause(SessionId(new_id()))


async def test_a_pause_that_waits_for_the_row_follows_the_end_committed_meanwhile(store: Store) -> None:
    """Naive: read the state before the wait."""
    session_id = await store.session()
    _, refused = await in_order(
        store,
        session_id,
        lambda: store.sessions.end(session_id),
        lambda: store.sessions.pause(session_id),
    )
    assert isinstance(refused, SessionEnded)
    assert (await store.kinds(session_id)) == ["session_changed"] * 2
