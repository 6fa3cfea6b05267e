"""Text from other replicas. The watchers here hear of no hints: nothing but the pull wakes them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from agent_service.domain import SessionId, Usage
from agent_service.rpc.pulls import SAID_HERE
from agent_service.rpc.streams import LiveStreams
from spark.agent.v1.agent_service_pb2 import StreamTranscriptRequest
from tests.rpc.conftest import LONG, Door, live_streams, open_door
from tests.rpc.holders import Holder, holder, said
from tests.rpc.reading import Reader, kinds, reading_of, texts, words
from tests.support import Store, Work, assistant, open_store, until


@pytest.fixture
async def elsewhere(store: Store) -> AsyncIterator[Store]:
    """The same database, as another replica has it."""
    async with open_store(store.database) as another:
        yield another


@pytest.fixture
async def live(store: Store) -> LiveStreams:
    return live_streams(store, LONG, LONG)


async def until_pulled(holder: Holder, times: int = 1) -> None:
    async def pulled() -> bool:
        return holder.pulling == times

    await until(pulled)


@asynccontextmanager
async def listening(
    live: LiveStreams, session_id: SessionId, after_revision: int = 0
) -> AsyncIterator[Reader]:
    async with reading_of(live, session_id, after_revision, include_deltas=True) as reader:
        await reader.until_synced()
        yield reader


async def answer(store: Store, work: Work) -> None:
    await store.transcript.append_answer(
        work.lease, work.next_position, work.place, [assistant("I look.")], Usage()
    )


async def test_text_that_is_written_at_one_replica_is_heard_at_another(
    elsewhere: Store, live: LiveStreams
) -> None:
    session_id = await elsewhere.session()
    async with open_door(elsewhere) as its_door:
        await elsewhere.open_turn(session_id, f"127.0.0.1:{its_door.port}")
        async with listening(live, session_id) as reader:
            reading = asyncio.create_task(reader.until("text_delta"))

            async def heard() -> bool:
                elsewhere.wakeups.say(session_id, words("I look."))
                return reading.done()

            await until(heard)
    assert set(texts(await reading)) == {"I look."}
    assert kinds(reader.events)[: kinds(reader.events).index("text_delta")][-1] == "round_started"


async def test_a_session_is_pulled_once_for_all_who_listen_and_as_long_as_somebody_does(
    store: Store, live: LiveStreams
) -> None:
    session_id = await store.session()
    async with holder() as running:
        await store.open_turn(session_id, running.address)
        async with reading_of(live, session_id) as deaf:
            await deaf.until_synced()
            for _ in range(2):
                async with AsyncExitStack() as stack:
                    for _ in range(3):
                        await stack.enter_async_context(listening(live, session_id))
                    await until_pulled(running)
                await until_pulled(running, times=0)
    assert len(running.pulled) == 2
    assert all(metadata[SAID_HERE[0]] == SAID_HERE[1] for metadata in running.pulled)
    assert all(request.include_deltas for request in running.requests)
    assert all(request.after_revision for request in running.requests)


async def test_nobody_pulls_from_itself_nor_where_nobody_runs_the_session(store: Store) -> None:
    own, resting = await store.session(), await store.session()
    async with holder() as running, holder() as another:
        live = live_streams(store, LONG, LONG, own_address=running.address)
        await store.open_turn(own, running.address)
        async with listening(live, own), listening(live, resting):
            # This one is pulled, after the others could have been.
            third = await store.session()
            await store.open_turn(third, another.address)
            async with listening(live, third):
                await until_pulled(another)
    assert running.pulled == []


async def test_text_comes_after_the_start_of_its_round_however_late_that_is_heard_of(
    store: Store, elsewhere: Store, live: LiveStreams
) -> None:
    session_id = await store.session()
    async with holder() as running:
        work = await elsewhere.open_turn(session_id, running.address)
        async with listening(live, session_id) as reader:
            await until_pulled(running)
            await elsewhere.transcript.append_reply(
                work.lease, work.next_position, work.place, [assistant("I look.")], Usage()
            )
            await elsewhere.nudge(session_id)
            newest = (await store.sessions.get(session_id)).session.revision
            running.tell(newest, said("I see.", round=2))
            await reader.until("text_delta")
    assert kinds(reader.events)[-3:] == ["message_appended", "interrupt_posted", "text_delta"]


async def test_text_that_comes_after_its_message_is_not_shown(store: Store, live: LiveStreams) -> None:
    session_id = await store.session()
    async with holder() as running:
        work = await store.open_turn(session_id, running.address)
        async with listening(live, session_id) as reader:
            await until_pulled(running)
            await answer(store, work)
            await reader.until("turn_ended")
            running.tell(reader.last_revision, said("I look."), said("I see.", round=2))
            await store.sessions.end(session_id)
            assert texts(await reader.until_end()) == []


async def test_the_pull_follows_the_session_to_its_next_holder(store: Store, live: LiveStreams) -> None:
    session_id = await store.session()
    async with holder() as first, holder() as second:
        work = await store.open_turn(session_id, first.address)
        async with listening(live, session_id) as reader:
            await until_pulled(first)
            await answer(store, work)
            await store.nudge(session_id)
            lease = await store.claim(session_id, second.address)
            assert await store.begin_turn(lease)
            await until_pulled(second)
            await until_pulled(first, times=0)
            second.tell(reader.last_revision, said("Next.", turn=2, round=0))
            await reader.until("text_delta")


async def test_a_holder_that_is_gone_costs_nothing_but_its_text(store: Store, live: LiveStreams) -> None:
    session_id = await store.session()
    async with holder() as running:
        work = await store.open_turn(session_id, running.address)
    async with listening(live, session_id) as reader:
        await answer(store, work)
        await reader.until("turn_ended")


async def test_a_holder_that_comes_back_is_pulled_again(store: Store, live: LiveStreams) -> None:
    session_id = await store.session()
    async with AsyncExitStack() as stack:
        async with holder() as running:
            await store.open_turn(session_id, running.address)
            reader = await stack.enter_async_context(listening(live, session_id))
            await until_pulled(running)
        async with holder(running.address) as again:
            await until_pulled(again)
            again.tell(reader.last_revision, said("I look."))
            await reader.until("text_delta")


async def test_text_that_was_pulled_is_not_handed_on(door: Door) -> None:
    session_id = await door.store.session()
    marked = StreamTranscriptRequest(session_id=str(session_id), include_deltas=True)
    async with holder() as running:
        work = await door.store.open_turn(session_id, running.address)
        pulling = door.stub.StreamTranscript(marked, metadata=(SAID_HERE,))
        listening = door.stub.StreamTranscript(marked)
        await until_pulled(running)
        while not (response := await listening.read()).synced:
            pass
        running.tell(response.last_revision, said("I look."))
        async with asyncio.timeout(10):
            while not texts((await listening.read()).events):
                pass
        await answer(door.store, work)
        await door.store.sessions.end(session_id)
        assert not any(texts(response.events) for response in [response async for response in pulling])


async def test_what_a_newer_version_says_is_left_out(store: Store, live: LiveStreams) -> None:
    session_id = await store.session()
    async with holder() as running:
        await store.open_turn(session_id, running.address)
        async with listening(live, session_id) as reader:
            await until_pulled(running)
            running.tell(reader.last_revision, said("?", kind=99), said("I look."))
            assert texts(await reader.until("text_delta")) == ["I look."]
