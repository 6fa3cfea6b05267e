from __future__ import annotations

import asyncio

import pytest

from agent_service.domain import SessionId, new_id
from agent_service.errors import Unavailable
from agent_service.rpc.convert.page import MAX_BYTES
from agent_service.rpc.tail import MAX_KEPT, Hearing, Item, Tail
from agent_service.wakeups import Watch
from spark.agent.v1.event_pb2 import Event

NOTHING, HERE, EVERYWHERE = Hearing.NOTHING, Hearing.HERE, Hearing.EVERYWHERE


def tail(revision: int = 0) -> Tail:
    return Tail(SessionId(new_id()), revision, Watch())


def facts(first: int, last: int, detail: str = "") -> list[Item]:
    return [Item(fact(revision, detail)) for revision in range(first, last + 1)]


def fact(revision: int, detail: str = "") -> Event:
    event = Event(revision=revision)
    event.round_failed.detail = detail
    return event


def said(text: str, hearing: Hearing = HERE) -> Item:
    event = Event()
    event.text_delta.text = text
    return Item(event, hearing)


def shown(events: list[Event]) -> list[int | str]:
    return [event.revision or event.text_delta.text for event in events]


async def test_who_hears_nothing_is_shown_the_facts_and_others_what_is_for_them() -> None:
    newest = tail()
    newest.add([*facts(1, 1), said("here"), said("there", EVERYWHERE), *facts(2, 2)])
    assert shown(newest.since(0, NOTHING)) == [1, 2]
    assert shown(newest.since(0, HERE)) == [1, "here", 2]
    assert shown(newest.since(0, EVERYWHERE)) == [1, "here", "there", 2]
    assert newest.since(newest.end, EVERYWHERE) == []


async def test_what_follows_a_fact_begins_with_the_text_after_it() -> None:
    newest = tail(revision=5)
    newest.add([said("before"), *facts(6, 7), said("after"), *facts(8, 8)])
    follows = {
        revision: shown(newest.since(place, HERE))
        for revision in range(4, 9)
        if (place := newest.place(revision)) is not None
    }
    assert follows == {
        5: ["before", 6, 7, "after", 8],
        6: [7, "after", 8],
        7: ["after", 8],
        8: [],
    }


async def test_what_is_older_than_the_newest_page_is_kept_within_bounds_of_number_and_bytes() -> None:
    many, large = tail(), tail()
    for page in range(3 * MAX_KEPT // 100):
        many.add(facts(1 + 100 * page, 100 * page + 100))
    for page in range(30):
        large.add(facts(1 + 10 * page, 10 * page + 10, "x" * (MAX_BYTES // 40)))
    kept = many.since(many.first, NOTHING)
    assert MAX_KEPT <= len(kept) <= MAX_KEPT + 100
    assert (kept[0].revision, kept[-1].revision) == (many.start + 1, many.revision) == (many.start + 1, 3000)
    kept_bytes = sum(event.ByteSize() for event in large.since(large.first, NOTHING))
    assert MAX_BYTES < kept_bytes < 2 * MAX_BYTES


async def test_a_page_too_large_to_be_kept_is_there_until_the_next_one_comes() -> None:
    newest = tail()
    newest.add(facts(1, 3, "x" * MAX_BYTES))
    assert shown(newest.since(newest.first, NOTHING)) == [1, 2, 3]
    newest.add(facts(4, 4))
    assert newest.place(2) is None
    assert newest.place(3) == newest.end - 1


async def test_text_that_is_dropped_costs_nobody_a_fact() -> None:
    newest = tail(revision=7)
    for _ in range(2 * MAX_KEPT):
        newest.add([said("word")])
    assert newest.start == 7
    assert newest.place(7) == newest.first > 0


async def test_a_failure_wakes_whoever_waits_and_is_raised_to_everybody() -> None:
    newest = tail()
    waiting = [asyncio.create_task(newest.reach(1)) for _ in range(2)]
    await asyncio.sleep(0)
    newest.fail(Unavailable("Gone."))
    for reached in waiting:
        with pytest.raises(Unavailable):
            await reached
    with pytest.raises(Unavailable):
        newest.check()
