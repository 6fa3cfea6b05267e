"""What the watchers of a session on one replica share, counted by what is asked of the database."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import asyncpg
import pytest

from agent_service.domain import SessionId, Usage
from agent_service.rpc.streams import LiveStreams
from agent_service.rpc.tail import MAX_KEPT
from agent_service.rpc.tails import PAGE_EVENTS
from agent_service.store.database import open_database
from tests.rpc.conftest import LONG, live_streams
from tests.rpc.reading import Reader, kinds, reading_of, revisions, texts, words
from tests.support import Store, assistant, open_store, until_blocked

WATCHERS = 20


@dataclass(frozen=True)
class Watched:
    """A replica that hears of news by hints alone, and whose only connection counts."""

    store: Store
    live: LiveStreams
    asked: list[str] = field(default_factory=list)

    @property
    def pages(self) -> int:
        """How often events were read."""
        return sum("FROM events" in statement for statement in self.asked)


@pytest.fixture
async def watched(database_url: str) -> AsyncIterator[Watched]:
    async with open_database(database_url, pool_size=1) as database, open_store(database) as store:
        replica = Watched(store, live_streams(store, LONG, LONG))
        async with database.connection() as connection:
            connection.add_query_logger(lambda record: replica.asked.append(record.query))
        yield replica


async def append(store: Store, session_id: SessionId, rows: int, text: str = "word") -> None:
    """So many events at once, in a turn that has just begun."""
    work = await store.open_turn(session_id)
    appended = [assistant(text) for _ in range(rows)]
    await store.transcript.append_reply(work.lease, work.next_position, work.place, appended, Usage())


async def synced(stack: AsyncExitStack, watched: Watched, session_id: SessionId, **how: object) -> Reader:
    reader = await stack.enter_async_context(reading_of(watched.live, session_id, **how))
    await reader.until_synced()
    return reader


async def test_one_read_of_what_is_new_serves_all_watchers(watched: Watched) -> None:
    session_id = await watched.store.session()
    async with AsyncExitStack() as stack:
        readers = [await synced(stack, watched, session_id) for _ in range(WATCHERS)]
        for _ in range(3):
            watched.asked.clear()
            await watched.store.nudge(session_id)
            await asyncio.gather(*(reader.next() for reader in readers))
            assert watched.pages == 1
        assert [revisions(reader.events) for reader in readers] == [[1, 2, 3, 4]] * WATCHERS


async def test_who_comes_later_needs_no_page_of_what_others_have_just_read(watched: Watched) -> None:
    session_id = await watched.store.session()
    await watched.store.nudge(session_id)
    async with AsyncExitStack() as stack:
        await synced(stack, watched, session_id)
        assert watched.pages == 1
        for after_revision in range(3):
            reader = await synced(stack, watched, session_id, after_revision=after_revision)
            assert revisions(reader.events) == [1, 2][after_revision:]
        assert watched.pages == 1


async def test_watchers_share_what_is_read_whether_they_want_text_or_not(watched: Watched) -> None:
    session_id = await watched.store.session()
    async with AsyncExitStack() as stack:
        hears = await synced(stack, watched, session_id, include_deltas=True)
        watches = await synced(stack, watched, session_id)
        await watched.store.open_turn(session_id)
        watched.store.wakeups.say(session_id, words("I look."))
        await hears.until("text_delta")
        await watched.store.nudge(session_id)
        await hears.until("interrupt_posted")
        await watches.until("interrupt_posted")
    assert [kind for kind in kinds(hears.events) if kind != "text_delta"] == kinds(watches.events)
    assert texts(hears.events) == ["I look."]


async def test_who_comes_in_the_middle_of_a_reply_is_shown_the_text_so_far(watched: Watched) -> None:
    session_id = await watched.store.session()
    async with AsyncExitStack() as stack:
        first = await synced(stack, watched, session_id, include_deltas=True)
        await watched.store.open_turn(session_id)
        watched.store.wakeups.say(session_id, words("I look."))
        await first.until("text_delta")
        later = await stack.enter_async_context(
            reading_of(watched.live, session_id, first.last_revision, include_deltas=True)
        )
        await later.until("text_delta")
    assert kinds(later.events) == ["text_delta"]


async def test_who_lags_far_behind_misses_nothing_and_holds_up_nobody(watched: Watched) -> None:
    session_id = await watched.store.session()
    async with AsyncExitStack() as stack:
        slow, fast = [await synced(stack, watched, session_id) for _ in range(2)]
        await append(watched.store, session_id, 2 * MAX_KEPT)
        await watched.store.sessions.end(session_id)
        whole = await fast.until_end()
        assert revisions(whole) == list(range(1, len(whole) + 1))
        watched.asked.clear()
        assert await slow.until_end() == whole
        of_its_own = len(whole) - 2 - MAX_KEPT
        assert of_its_own // PAGE_EVENTS - 1 <= watched.pages <= of_its_own // PAGE_EVENTS + 1


async def test_of_a_long_past_no_more_than_a_page_is_read_at_once(watched: Watched) -> None:
    session_id = await watched.store.session()
    await append(watched.store, session_id, 20 * PAGE_EVENTS)
    async with AsyncExitStack() as stack:
        watched.asked.clear()
        reader = await stack.enter_async_context(reading_of(watched.live, session_id))
        await reader.next()
        # One page for this watcher, and the newest one for all.
        assert watched.pages <= 2
        assert len(reader.events) <= PAGE_EVENTS
        await reader.until_synced()
    assert revisions(reader.events) == list(range(1, len(reader.events) + 1))


async def test_what_cannot_be_read_ends_all_streams_and_those_that_are_opened_again_go_on(
    watched: Watched,
) -> None:
    session_id = await watched.store.session()
    async with AsyncExitStack() as stack:
        readers = [await synced(stack, watched, session_id) for _ in range(2)]
        async with watched.store.own_connection() as administrator:
            await administrator.execute("ALTER TABLE events RENAME TO elsewhere")
            watched.store.wakeups.hint(session_id)
            for reader in readers:
                with pytest.raises(asyncpg.UndefinedTableError):
                    await reader.next()
            await administrator.execute("ALTER TABLE elsewhere RENAME TO events")
        await watched.store.nudge(session_id)
        again = await synced(stack, watched, session_id, after_revision=1)
        assert revisions(again.events) == [2]


async def test_nothing_is_read_for_a_session_that_nobody_watches_any_more(watched: Watched) -> None:
    session_id, another = await watched.store.session(), await watched.store.session()
    async with AsyncExitStack() as stack:
        stays = await synced(stack, watched, another)
        async with AsyncExitStack() as leaves:
            await synced(leaves, watched, session_id)
        watched.asked.clear()
        await watched.store.nudge(session_id)
        await watched.store.nudge(another)
        await stays.next()
    assert watched.pages == 1


async def test_a_stream_that_is_given_up_before_it_has_begun_leaves_nothing(watched: Watched) -> None:
    session_id = await watched.store.session()
    async with watched.store.own_connection() as holder, holder.transaction():
        await holder.execute("LOCK TABLE events")
        async with reading_of(watched.live, session_id) as reader:
            opening = asyncio.create_task(reader.next())
            await until_blocked(watched.store)
            opening.cancel()
            await asyncio.wait({opening})
    async with AsyncExitStack() as stack:
        assert revisions((await synced(stack, watched, session_id)).events) == [1]
