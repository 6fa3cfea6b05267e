from dataclasses import replace

import pytest

from agent_service.domain import Lease, SessionId, SessionState
from agent_service.errors import LeaseLost
from tests.support import Store

REASON = "there is no room"


async def held(store: Store) -> tuple[SessionId, Lease]:
    session_id = await store.session()
    return session_id, (await store.open_turn(session_id)).lease


async def test_the_next_holder_knows_how_long_tokens_are(store: Store) -> None:
    _, lease = await held(store)
    assert (await store.load(lease)).bytes_per_token == 3
    await store.room.learn(lease, 1.5)
    assert (await store.load(lease)).bytes_per_token == 1.5


async def test_what_is_shown_shorter_is_read_so_and_nothing_else_is(store: Store) -> None:
    session_id = await store.session()
    nudges = [await store.nudge(session_id) for _ in range(3)]
    lease = (await store.open_turn(session_id)).lease
    await store.room.show_less(lease, [replace(nudges[0], shown_bytes=5), replace(nudges[2], shown_bytes=7)])
    rows = (await store.load(lease)).rows
    assert [row.content.shown_bytes for row in rows[:3]] == [5, 0, 7]


async def test_a_session_that_is_given_up_has_failed_with_its_turn_open(store: Store) -> None:
    session_id, lease = await held(store)
    await store.room.give_up(lease, REASON)
    found = await store.sessions.get(session_id)
    assert (found.session.state, found.session.state_reason) == (SessionState.FAILED, REASON)
    assert (await store.kinds(session_id))[-1] == "session_changed"
    assert await store.leases.claim_due(await store.replica(), 10) == []
    await store.sessions.resume(session_id)
    assert (await store.load(await store.claim(session_id))).turn_open


async def test_a_session_that_was_paused_meanwhile_stays_paused(store: Store) -> None:
    session_id, lease = await held(store)
    await store.sessions.pause(session_id)
    before = await store.kinds(session_id)
    await store.room.give_up(lease, REASON)
    assert (await store.sessions.get(session_id)).session.state is SessionState.PAUSED
    assert await store.kinds(session_id) == before


async def test_who_has_lost_the_session_changes_nothing(store: Store) -> None:
    session_id = await store.session()
    nudge = await store.nudge(session_id)
    lease = (await store.open_turn(session_id)).lease
    former = replace(lease, epoch=lease.epoch - 1)
    with pytest.raises(LeaseLost):
        await store.room.learn(former, 1.5)
    with pytest.raises(LeaseLost):
        await store.room.show_less(former, [replace(nudge, shown_bytes=5)])
    with pytest.raises(LeaseLost):
        await store.room.give_up(former, REASON)
    now = await store.load(lease)
    assert (now.bytes_per_token, now.rows[0].content.shown_bytes) == (3, 0)
    assert now.standing.session.state is SessionState.ACTIVE
