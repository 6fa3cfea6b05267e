import asyncio

import pytest

from agent_service.domain import DeltaKind, SessionId, Speaker, TextDelta, new_id
from agent_service.wakeups import Wakeups
from agent_service.wakeups.local import MAX_BUFFERED_DELTAS
from tests.wakeups.watches import wakes

SESSION = SessionId(new_id())
ANOTHER = SessionId(new_id())


def delta(offset: int = 0) -> TextDelta:
    return TextDelta(1, 1, 1, Speaker.ASSISTANT, DeltaKind.TEXT, offset, "a")


async def test_a_hint_before_the_wait_is_not_lost() -> None:
    wakeups = Wakeups()
    with wakeups.watch(SESSION) as watch:
        wakeups.hint(SESSION)
        assert await wakes(watch)


async def test_hints_that_came_together_wake_once() -> None:
    wakeups = Wakeups()
    with wakeups.watch(SESSION) as watch:
        wakeups.hint(SESSION)
        wakeups.hint(SESSION)
        assert await wakes(watch)
        assert not await wakes(watch)


async def test_a_wait_without_a_hint_ends_after_its_time_and_loses_no_later_hint() -> None:
    wakeups = Wakeups()
    with wakeups.watch(SESSION) as watch:
        await watch.wait(0.001)
        wakeups.hint(SESSION)
        assert await wakes(watch)


async def test_a_watch_hears_of_its_own_session_only() -> None:
    wakeups = Wakeups()
    with wakeups.watch(SESSION) as watch:
        wakeups.hint(ANOTHER)
        wakeups.say(ANOTHER, delta())
        assert not await wakes(watch)
        assert watch.take_deltas() == []


async def test_a_wait_that_ends_by_text_alone_says_that_there_is_nothing_new_to_read() -> None:
    wakeups = Wakeups()
    with wakeups.watch(SESSION) as watch:
        wakeups.say(SESSION, delta())
        assert not await watch.wait(3600)
        wakeups.hint(SESSION)
        wakeups.say(SESSION, delta())
        assert await watch.wait(3600)
        assert await watch.wait(0.001)


async def test_text_wakes_every_watcher_and_is_taken_once() -> None:
    wakeups = Wakeups()
    with wakeups.watch(SESSION) as one, wakeups.watch(SESSION) as other:
        wakeups.say(SESSION, delta(0))
        wakeups.say(SESSION, delta(1))
        for watch in (one, other):
            assert await wakes(watch)
            assert watch.take_deltas() == [delta(0), delta(1)]
            assert watch.take_deltas() == []


async def test_a_watcher_that_does_not_read_keeps_the_newest_text_and_no_more() -> None:
    wakeups = Wakeups()
    with wakeups.watch(SESSION) as watch:
        for offset in range(MAX_BUFFERED_DELTAS + 3):
            wakeups.say(SESSION, delta(offset))
        kept = [heard.offset for heard in watch.take_deltas()]
    assert kept == list(range(3, MAX_BUFFERED_DELTAS + 3))


async def test_who_has_left_hears_nothing_and_who_stays_hears_on() -> None:
    wakeups = Wakeups()
    with wakeups.watch(SESSION) as stays:
        with pytest.raises(ConnectionError), wakeups.watch(SESSION) as left:
            raise ConnectionError
        wakeups.hint(SESSION)
        wakeups.say(SESSION, delta())
        assert await wakes(stays)
        assert not await wakes(left)
        assert left.take_deltas() == []
    wakeups.hint(SESSION)
    assert not await wakes(stays)


async def test_a_listener_hears_of_every_session_and_of_no_text() -> None:
    wakeups = Wakeups()
    heard: list[SessionId | None] = []
    wakeups.listen(heard.append)
    wakeups.hint(SESSION)
    wakeups.hint(ANOTHER)
    wakeups.say(SESSION, delta())
    assert heard == [SESSION, ANOTHER]


async def test_hints_of_this_process_alone_are_forwarded() -> None:
    wakeups = Wakeups()
    forwarded: list[SessionId] = []
    wakeups.forward_to(forwarded.append)
    wakeups.hint(SESSION)
    wakeups.offer(ANOTHER)
    wakeups.tell(ANOTHER)
    wakeups.scan()
    assert forwarded == [SESSION]


async def test_what_another_process_takes_care_of_is_told_to_watchers_and_to_no_listener() -> None:
    wakeups = Wakeups()
    heard: list[SessionId | None] = []
    wakeups.listen(heard.append)
    with wakeups.watch(SESSION) as watch:
        wakeups.tell(SESSION)
        assert await wakes(watch)
        assert heard == []
        wakeups.offer(SESSION)
        assert await wakes(watch)
        assert heard == [SESSION]


async def test_after_a_gap_everybody_looks() -> None:
    wakeups = Wakeups()
    heard: list[SessionId | None] = []
    wakeups.listen(heard.append)
    with wakeups.watch(SESSION) as one, wakeups.watch(SESSION) as same, wakeups.watch(ANOTHER) as other:
        wakeups.scan()
        for watch in (one, same, other):
            assert await wakes(watch)
    assert heard == [None]


async def test_the_poll_comes_however_much_text_is_said() -> None:
    wakeups, session_id = Wakeups(), SessionId(new_id())
    with wakeups.watch(session_id) as watch:
        polled = False
        async with asyncio.timeout(30):
            while not polled:
                wakeups.say(session_id, TextDelta(1, 1, 1, Speaker.ASSISTANT, DeltaKind.TEXT, 0, "word"))
                polled = await watch.wait(0.05)
