"""Streams at one replica of what is posted at another, while hints are lost."""

import random
from collections.abc import AsyncIterator

import pytest

from agent_service.domain import SessionId, SessionMode
from agent_service.rpc.streams import LiveStreams
from agent_service.rpc.tail import Hearing
from agent_service.store.database import Database
from tests.rpc.conftest import live_streams
from tests.support import Store, open_store
from tests.wakeups.replicas import LISTENERS, NOTIFIERS, backends, cut, replica

POSTS = 30
NOTICE_SECONDS = 60


async def revisions(streams: LiveStreams, session_id: SessionId) -> AsyncIterator[int]:
    async for response in streams.transcript(session_id, 0, Hearing.NOTHING):
        for event in response.events:
            yield event.revision


@pytest.mark.parametrize("seed", range(3))
async def test_every_event_comes_once_and_in_order_while_connections_are_cut_at_random(
    store: Store, database: Database, seed: int
) -> None:
    chance = random.Random(seed)
    session_id = await store.session(SessionMode.ON_INTERRUPT)
    async with (
        open_store(database) as another,
        replica(database, wakeups=store.wakeups),
        replica(database, wakeups=another.wakeups),
    ):
        come = revisions(live_streams(another, 0.2, NOTICE_SECONDS), session_id)
        assert await anext(come) == 1
        for revision in range(2, POSTS + 2):
            if chance.random() < 0.3:
                await cut(database, await backends(database, chance.choice([LISTENERS, NOTIFIERS])))
            await store.nudge(session_id)
            if chance.random() < 0.3:
                await cut(database, await backends(database, chance.choice([LISTENERS, NOTIFIERS])))
            assert await anext(come) == revision
        await come.aclose()
