from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from agent_service.domain import (
    Session,
    SessionChanged,
    SessionConfig,
    SessionId,
    SessionMode,
    SessionState,
    Usage,
    new_id,
)
from agent_service.errors import SessionEnded, SessionNotFound
from tests.support import Store, assistant, in_order

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)


def renamed(session: Session) -> Session:
    return replace(session, display_name="light")


def configured(**fields: object) -> Callable[[Session], Session]:
    return lambda session: replace(session, config=replace(session.config, **fields))  # type: ignore[arg-type]


on_interrupt = configured(mode=SessionMode.ON_INTERRUPT)
autonomous = configured(mode=SessionMode.AUTONOMOUS)


async def due_in(store: Store, session_id: SessionId) -> timedelta | None:
    """How long it is until the session is due, to the minute."""
    async with store.database.connection() as connection:
        due_in: timedelta | None = await connection.fetchval(
            "SELECT date_trunc('minute', due_at - clock_timestamp() + interval '30 seconds') "
            "FROM sessions WHERE session_id = $1",
            session_id,
        )
    return due_in


async def due_at(store: Store, session_id: SessionId) -> datetime | None:
    async with store.database.connection() as connection:
        due_at: datetime | None = await connection.fetchval(
            "SELECT due_at FROM sessions WHERE session_id = $1", session_id
        )
    return due_at


async def resting(store: Store, cooldown: timedelta) -> SessionId:
    """A session between two turns, at the beginning of its cooldown."""
    session_id = await store.session(cooldown_seconds=cooldown.total_seconds())
    async with store.database.connection() as connection:
        await connection.execute(
            "UPDATE sessions SET due_at = clock_timestamp() + $2 WHERE session_id = $1", session_id, cooldown
        )
    return session_id


async def test_an_update_changes_what_it_says_and_is_an_event(store: Store) -> None:
    session_id = await store.session()
    before = (await store.sessions.get(session_id)).session

    def change(session: Session) -> Session:
        config = SessionConfig("other", tools=("now",), cooldown=MINUTE, max_turns=3)
        return replace(session, display_name="light", goal="Put it out.", labels={"a": "b"}, config=config)

    updated = (await store.sessions.update(session_id, change)).session

    assert updated == replace(change(before), revision=2)
    assert (await store.sessions.get(session_id)).session == updated
    last = (await store.streams.page(session_id, 1, 10))[-1]
    assert last.happening == SessionChanged(updated)
    assert await store.kinds(session_id) == ["session_changed"] * 2


async def test_an_update_that_changes_nothing_is_no_event(store: Store) -> None:
    session_id = await store.session()
    first = await store.sessions.update(session_id, renamed)
    assert await store.sessions.update(session_id, renamed) == first
    assert await store.kinds(session_id) == ["session_changed"] * 2


async def test_what_is_ended_or_does_not_exist_is_not_updated(store: Store) -> None:
    session_id = await store.session()
    await store.sessions.end(session_id)
    with pytest.raises(SessionEnded):
        await store.sessions.update(session_id, renamed)
    with pytest.raises(SessionNotFound):
        await store.sessions.update(SessionId(new_id()), renamed)
    assert await store.kinds(session_id) == ["session_changed"] * 2


@pytest.mark.parametrize("state", [SessionState.PAUSED, SessionState.FAILED])
async def test_a_session_that_is_stopped_is_updated_and_stays_so(store: Store, state: SessionState) -> None:
    session_id = await store.session(SessionMode.ON_INTERRUPT)
    async with store.database.connection() as connection:
        await connection.execute(
            "UPDATE sessions SET state = $2, state_reason = 'why' WHERE session_id = $1",
            session_id,
            state.value,
        )
    updated = (await store.sessions.update(session_id, autonomous)).session
    assert (updated.state, updated.state_reason) == (state, "why")
    assert updated.config.mode is SessionMode.AUTONOMOUS
    assert await store.leases.claim_due(await store.replica(), 10) == []


async def test_two_updates_of_different_fields_at_the_same_time_both_count(store: Store) -> None:
    """Naive: change the session as it was before the wait for the row."""
    session_id = await store.session()
    await in_order(
        store,
        session_id,
        lambda: store.sessions.update(session_id, renamed),
        lambda: store.sessions.update(session_id, configured(max_turns=3)),
        lambda: store.sessions.update(session_id, configured(token_budget=4)),
    )
    session = (await store.sessions.get(session_id)).session
    config = SessionConfig("demo", max_turns=3, token_budget=4)
    assert (session.display_name, session.config) == ("light", config)
    assert await store.kinds(session_id) == ["session_changed"] * 4


async def test_an_update_that_waits_for_the_row_follows_the_end_committed_meanwhile(store: Store) -> None:
    session_id = await store.session()
    _, refused = await in_order(
        store,
        session_id,
        lambda: store.sessions.end(session_id),
        lambda: store.sessions.update(session_id, renamed),
    )
    assert isinstance(refused, SessionEnded)
    assert await store.kinds(session_id) == ["session_changed"] * 2


async def test_an_update_that_fails_changes_nothing(store: Store) -> None:
    session_id = await store.session()

    def fail(_: Session) -> Session:
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        await store.sessions.update(session_id, fail)
    assert await store.kinds(session_id) == ["session_changed"]


async def test_an_update_leaves_the_holder_of_a_running_turn_its_lease(store: Store) -> None:
    session_id = await store.session(cooldown_seconds=3600)
    work = await store.open_turn(session_id)
    due = await due_at(store, session_id)
    for change in (renamed, on_interrupt, autonomous, configured(cooldown=MINUTE)):
        await store.sessions.update(session_id, change)

    assert await due_at(store, session_id) == due
    await store.transcript.append(work.lease, work.next_position, work.place, [assistant("I look.")], Usage())
    assert await store.leases.claim_due(await store.replica(), 10) == []


async def test_without_turns_of_its_own_a_session_is_due_no_more(store: Store) -> None:
    session_id = await store.session()
    updated = await store.sessions.update(session_id, on_interrupt)
    assert updated.next_turn_time is None
    assert await store.leases.claim_due(await store.replica(), 10) == []


async def test_a_session_with_turns_of_its_own_is_due_at_once(store: Store) -> None:
    session_id = await store.session(SessionMode.ON_INTERRUPT, cooldown_seconds=3600)
    await store.sessions.update(session_id, autonomous)
    assert (await store.claim(session_id)).session_id == session_id


async def test_a_shorter_cooldown_counts_at_once(store: Store) -> None:
    session_id = await resting(store, cooldown=HOUR)
    await store.sessions.update(session_id, configured(cooldown=MINUTE))
    assert await due_in(store, session_id) == MINUTE


async def test_a_longer_cooldown_delays_nothing_that_has_its_time(store: Store) -> None:
    session_id = await resting(store, cooldown=MINUTE)
    due = await due_at(store, session_id)
    await store.sessions.update(session_id, configured(cooldown=HOUR))
    assert await due_at(store, session_id) == due


async def test_other_changes_leave_the_time_of_the_next_turn_alone(store: Store) -> None:
    session_id = await resting(store, cooldown=HOUR)
    due = await due_at(store, session_id)
    for change in (renamed, configured(max_turns=3, tools=("now",))):
        await store.sessions.update(session_id, change)
    assert await due_at(store, session_id) == due


async def test_a_cooldown_without_turns_of_its_own_sets_no_time(store: Store) -> None:
    session_id = await store.session(SessionMode.ON_INTERRUPT)
    await store.sessions.update(session_id, configured(cooldown=MINUTE))
    assert await due_at(store, session_id) is None


async def test_an_update_is_hinted_to_whoever_watches(store: Store) -> None:
    session_id = await store.session()
    with store.wakeups.watch(session_id) as watch:
        await store.sessions.update(session_id, renamed)
        assert await watch.wait(poll_seconds=3600)
