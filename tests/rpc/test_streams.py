from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import grpc
import pytest

from agent_service.domain import (
    Notification,
    Place,
    RoundFailure,
    SessionId,
    Usage,
)
from agent_service.errors import RevisionOutOfRange, SessionNotFound, Unavailable
from agent_service.rpc.tails import PAGE_EVENTS
from agent_service.store.deposits import Deposits
from agent_service.wakeups import Wakeups
from spark.agent.v1.agent_service_pb2 import (
    StreamTranscriptRequest,
    StreamTranscriptResponse,
    WatchInterruptRequest,
)
from spark.agent.v1.interrupt_pb2 import InterruptState
from tests.rpc.conftest import Door, open_door
from tests.rpc.reading import in_bytes, kinds, reading, revisions, texts, words
from tests.support import LIMITS, Store, assistant, deposit, until_blocked


async def test_a_stream_shows_what_was_and_then_what_happens(store: Store) -> None:
    session_id = await store.session()
    await store.nudge(session_id)
    async with reading(store, session_id) as reader:
        assert kinds(await reader.until_synced()) == ["session_changed", "interrupt_posted"]
        await store.nudge(session_id)
        await reader.next()
        assert revisions(reader.events) == [1, 2, 3]


async def test_a_stream_opened_with_a_cursor_shows_only_what_came_later(store: Store) -> None:
    session_id = await store.session()
    for _ in range(3):
        await store.nudge(session_id)
    async with reading(store, session_id, after_revision=2) as reader:
        assert revisions(await reader.until_synced()) == [3, 4]


async def test_a_stream_opened_at_the_newest_revision_is_in_step_at_once(store: Store) -> None:
    session_id = await store.session()
    async with reading(store, session_id, after_revision=1) as reader:
        first = await reader.next()
        assert (list(first.events), first.last_revision, first.synced) == ([], 1, True)


async def test_what_is_read_later_is_what_was_shown_live_byte_for_byte(store: Store) -> None:
    session_id = await store.session(labels={"team": "north", "watch": "first", "lamp": "2"})
    data = '{"loss": 0.04, "epochs": [1, {"b": null, "a": 2}]}'
    async with reading(store, session_id) as live:
        await live.until_synced()
        nudge = await store.nudge(session_id)
        await live.next()
        work = await store.open_turn(session_id)
        await live.next()
        await store.transcript.see(work.lease, [nudge.interrupt_id])
        await live.next()
        await store.transcript.append_answer(
            work.lease, work.next_position, work.place, [assistant("North it is.")], Usage()
        )
        await live.next()
        await store.nudge(session_id, notification=Notification("tune.finished", "job-7", "Done.", data))
        await live.next()
        await store.sessions.end(session_id)
        await live.until_end()
    shown = in_bytes(live.events)
    async with reading(store, session_id) as later:
        assert in_bytes(await later.until_end()) == shown
    assert revisions(live.events) == list(range(1, len(shown) + 1))
    for after in range(len(shown)):
        async with reading(store, session_id, after) as rest:
            assert in_bytes(await rest.until_end()) == shown[after:]


async def test_a_stream_ends_after_the_session_did(store: Store) -> None:
    session_id = await store.session()
    await store.nudge(session_id)
    async with reading(store, session_id) as reader:
        await reader.until_synced()
        await store.sessions.end(session_id)
        events = await reader.until_end()
    assert kinds(events)[-2:] == ["interrupt_settled", "session_changed"]


async def test_a_stream_of_an_ended_session_that_has_seen_it_all_ends_at_once(store: Store) -> None:
    session_id = await store.session()
    newest = (await store.sessions.end(session_id)).session.revision
    async with reading(store, session_id, after_revision=newest) as reader:
        assert (await reader.next()).synced
        assert await reader.until_end() == []


async def test_a_change_that_nobody_hinted_is_found_by_the_poll(store: Store) -> None:
    session_id = await store.session()
    async with (
        Deposits(store.database, Wakeups(), LIMITS) as another_replica,
        reading(store, session_id, poll_seconds=0.02) as reader,
    ):
        await reader.until_synced()
        await another_replica.deposit(deposit(session_id))
        assert kinds(await reader.until("interrupt_posted"))[-1] == "interrupt_posted"


async def test_a_quiet_stream_says_that_it_is_alive(store: Store) -> None:
    session_id = await store.session()
    async with reading(store, session_id, notice_seconds=0.05) as reader:
        await reader.until_synced()
        for _ in range(2):
            notice = await reader.next()
            assert (list(notice.events), notice.last_revision, notice.synced) == ([], 1, False)


async def test_the_shutdown_ends_a_stream_at_once(store: Store) -> None:
    session_id = await store.session()
    stopping = asyncio.Event()
    async with reading(store, session_id, stopping=stopping) as reader:
        await reader.until_synced()
        stopping.set()
        with pytest.raises(Unavailable):
            await reader.next()


async def test_a_cursor_from_the_future_is_out_of_range(store: Store) -> None:
    session_id = await store.session()
    async with reading(store, session_id, after_revision=2) as reader:
        with pytest.raises(RevisionOutOfRange) as caught:
            await reader.next()
    assert caught.value.newest == 1


async def test_a_session_that_does_not_exist_has_no_stream(store: Store) -> None:
    async with reading(store, SessionId(uuid4())) as reader:
        with pytest.raises(SessionNotFound):
            await reader.next()


async def test_a_long_past_comes_in_pages_without_a_gap(store: Store) -> None:
    session_id = await store.session()
    posts = PAGE_EVENTS + 100
    await asyncio.gather(
        *(store.deposits.deposit(deposit(session_id, source=f"user:{n % 4}")) for n in range(posts))
    )
    async with reading(store, session_id) as reader:
        first = await reader.next()
        assert (len(first.events), first.last_revision) == (PAGE_EVENTS, PAGE_EVENTS)
        assert revisions(await reader.until_synced()) == list(range(1, posts + 2))


async def test_a_page_of_large_rows_comes_in_pieces_that_a_client_can_take(store: Store) -> None:
    session_id = await store.session()
    work = await store.open_turn(session_id)
    rows = [assistant("x" * 300_000) for _ in range(8)]
    await store.transcript.append_answer(work.lease, work.next_position, work.place, rows, Usage())
    async with reading(store, session_id) as reader:
        sizes = []
        while not (response := await reader.next()).synced:
            sizes.append(response.ByteSize())
    assert len(sizes) > 2
    assert max(sizes) < 1_100_000
    assert revisions(reader.events) == list(range(1, len(reader.events) + 1))


async def test_text_streams_to_those_who_ask_for_it(store: Store) -> None:
    session_id = await store.session()
    await store.open_turn(session_id)
    async with reading(store, session_id, include_deltas=True) as reader:
        await reader.until_synced()
        store.wakeups.say(session_id, words("I lo"))
        store.wakeups.say(session_id, words("ok."))
        shown = await reader.next()
    assert texts(list(shown.events)) == ["I lo", "ok."]
    assert all(event.revision == 0 for event in shown.events)
    assert shown.last_revision == reader.last_revision > 0


async def test_text_does_not_stream_to_others(store: Store) -> None:
    session_id = await store.session()
    await store.open_turn(session_id)
    async with reading(store, session_id) as reader:
        await reader.until_synced()
        store.wakeups.say(session_id, words("I look."))
        await store.nudge(session_id)
        assert kinds(list((await reader.next()).events)) == ["interrupt_posted"]
        await store.sessions.end(session_id)
        assert texts(await reader.until_end()) == []


async def test_text_comes_after_the_start_of_its_round(store: Store) -> None:
    session_id = await store.session()
    async with reading(store, session_id, include_deltas=True) as reader:
        await reader.until_synced()
        await store.open_turn(session_id)
        store.wakeups.say(session_id, words("I look."))
        await reader.until("text_delta")
    assert kinds(reader.events)[-2:] == ["round_started", "text_delta"]


HOLD = """
CREATE FUNCTION hold() RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN true; END $$;
ALTER TABLE events RENAME TO recorded;
CREATE VIEW events AS SELECT * FROM recorded WHERE (SELECT hold())"""


async def test_text_waits_for_a_start_that_was_committed_while_a_page_was_read(store: Store) -> None:
    session_id = await store.session()
    async with reading(store, session_id, include_deltas=True) as reader, store.own_connection() as holder:
        await reader.until_synced()
        await holder.execute(HOLD)
        await holder.execute("SELECT pg_advisory_lock(1)")
        store.wakeups.hint(session_id)
        await until_blocked(store)
        await store.open_turn(session_id)
        store.wakeups.say(session_id, words("I look."))
        await holder.execute("SELECT pg_advisory_unlock(1)")
        await reader.until("text_delta")
    assert kinds(reader.events)[-2:] == ["round_started", "text_delta"]


async def test_text_is_not_shown_after_its_message(store: Store) -> None:
    session_id = await store.session()
    async with reading(store, session_id, include_deltas=True) as reader:
        await reader.until_synced()
        work = await store.open_turn(session_id)
        await store.transcript.append_answer(
            work.lease, work.next_position, work.place, [assistant("I look.")], Usage()
        )
        store.wakeups.say(session_id, words("ok."))
        await reader.until("turn_ended")
        store.wakeups.say(session_id, words("late"))
        await store.sessions.end(session_id)
        assert texts(await reader.until_end()) == []


async def test_text_of_a_failed_attempt_is_not_shown_and_that_of_the_next_one_is(store: Store) -> None:
    session_id = await store.session()
    async with reading(store, session_id, include_deltas=True) as reader:
        await reader.until_synced()
        work = await store.open_turn(session_id)
        await store.transcript.fail_round(
            work.lease, Place(1, 1, 1), RoundFailure.MODEL_UNAVAILABLE, "no route", Usage(), 0
        )
        store.wakeups.say(session_id, words("Ghost."))
        store.wakeups.say(session_id, words("I look.", attempt=2))
        await reader.until("text_delta")
    assert texts(reader.events) == ["I look."]
    assert kinds(reader.events)[-2:] == ["round_failed", "text_delta"]


async def test_a_client_gets_the_stream_and_its_end(door: Door) -> None:
    session_id = await door.store.session()
    interrupt = await door.store.nudge(session_id)
    transcript = door.stub.StreamTranscript(StreamTranscriptRequest(session_id=str(session_id)))
    watch = door.stub.WatchInterrupt(WatchInterruptRequest(interrupt_id=str(interrupt.interrupt_id)))
    assert kinds(list((await transcript.read()).events)) == ["session_changed", "interrupt_posted"]
    await door.store.sessions.end(session_id)
    rest = [event async for response in rest_of(transcript) for event in response.events]
    assert kinds(rest) == ["interrupt_settled", "session_changed"]
    states = [response.interrupt.state async for response in watch]
    assert states[-1] == InterruptState.INTERRUPT_STATE_CANCELLED
    assert (await transcript.code(), await watch.code()) == (grpc.StatusCode.OK, grpc.StatusCode.OK)


async def rest_of(
    call: grpc.aio.UnaryStreamCall[StreamTranscriptRequest, StreamTranscriptResponse],
) -> AsyncIterator[StreamTranscriptResponse]:
    while (response := await call.read()) is not grpc.aio.EOF:
        yield response


@pytest.mark.parametrize(
    ("after_revision", "code"),
    [(-1, grpc.StatusCode.INVALID_ARGUMENT), (2**63 - 1, grpc.StatusCode.OUT_OF_RANGE)],
)
async def test_a_client_with_an_impossible_cursor_is_told_so(
    door: Door, after_revision: int, code: grpc.StatusCode
) -> None:
    session_id = await door.store.session()
    request = StreamTranscriptRequest(session_id=str(session_id), after_revision=after_revision)
    call = door.stub.StreamTranscript(request)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert caught.value.code() is code


async def test_the_shutdown_tells_clients_to_open_their_streams_again(store: Store) -> None:
    session_id = await store.session()
    async with open_door(store, drain_seconds=60) as door:
        call = door.stub.StreamTranscript(StreamTranscriptRequest(session_id=str(session_id)))
        await call.read()
        door.stopping.set()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async with asyncio.timeout(10):
                [_ async for _ in rest_of(call)]
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
