"""The watch of a single interrupt, which the module streams has beside the transcript's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from uuid import uuid4

import pytest

from agent_service.domain import MessageId
from agent_service.errors import InterruptNotFound, Unavailable
from agent_service.store.deposits import Deposits
from agent_service.wakeups import Wakeups
from spark.agent.v1.agent_service_pb2 import WatchInterruptResponse
from spark.agent.v1.interrupt_pb2 import InterruptState
from tests.rpc.conftest import LONG, live_streams
from tests.support import LIMITS, Store, deposit


class InterruptReader:
    """Reads the states of an interrupt."""

    def __init__(self, responses: AsyncGenerator[WatchInterruptResponse, None]) -> None:
        self._responses = responses

    async def next(self) -> str:
        async with asyncio.timeout(10):
            response = await anext(self._responses)
        return InterruptState.Name(response.interrupt.state).removeprefix("INTERRUPT_STATE_")

    async def ends(self) -> bool:
        try:
            await self.next()
        except StopAsyncIteration:
            return True
        return False


@asynccontextmanager
async def watching(
    store: Store, interrupt_id: MessageId, poll_seconds: float = LONG, stopping: asyncio.Event | None = None
) -> AsyncIterator[InterruptReader]:
    live = live_streams(store, poll_seconds, LONG, stopping)
    async with aclosing(live.interrupt(interrupt_id)) as responses:
        yield InterruptReader(responses)


async def test_an_interrupt_is_watched_from_pending_to_seen(store: Store) -> None:
    session_id = await store.session()
    interrupt = await store.nudge(session_id)
    async with watching(store, interrupt.interrupt_id) as reader:
        assert await reader.next() == "PENDING"
        work = await store.open_turn(session_id)
        assert await reader.next() == "DELIVERED"
        await store.transcript.see(work.lease, [interrupt.interrupt_id])
        assert await reader.next() == "SEEN"
        assert await reader.ends()


async def test_an_interrupt_that_settled_is_shown_once(store: Store) -> None:
    session_id = await store.session()
    interrupt = await store.nudge(session_id)
    await store.sessions.end(session_id)
    async with watching(store, interrupt.interrupt_id) as reader:
        assert await reader.next() == "CANCELLED"
        assert await reader.ends()


async def test_what_happens_to_others_does_not_show(store: Store) -> None:
    session_id = await store.session()
    interrupt = await store.nudge(session_id)
    async with watching(store, interrupt.interrupt_id) as reader:
        assert await reader.next() == "PENDING"
        following = asyncio.create_task(reader.next())
        for _ in range(3):
            await store.nudge(session_id)
        await store.sessions.end(session_id)
        assert await following == "CANCELLED"


async def test_a_change_of_an_interrupt_that_nobody_hinted_is_found_by_the_poll(store: Store) -> None:
    session_id = await store.session()
    interrupt = await store.nudge(session_id, coalesce_key="k")
    async with (
        Deposits(store.database, Wakeups(), LIMITS) as another_replica,
        watching(store, interrupt.interrupt_id, poll_seconds=0.02) as reader,
    ):
        assert await reader.next() == "PENDING"
        await another_replica.deposit(deposit(session_id, coalesce_key="k"))
        assert await reader.next() == "SUPERSEDED"


async def test_the_shutdown_ends_the_watch_of_an_interrupt_at_once(store: Store) -> None:
    interrupt = await store.nudge(await store.session())
    stopping = asyncio.Event()
    async with watching(store, interrupt.interrupt_id, stopping=stopping) as reader:
        assert await reader.next() == "PENDING"
        stopping.set()
        with pytest.raises(Unavailable):
            await reader.next()


async def test_an_interrupt_that_does_not_exist_has_no_watch(store: Store) -> None:
    async with watching(store, MessageId(uuid4())) as reader:
        with pytest.raises(InterruptNotFound):
            await reader.next()
