"""Groups, in front of a disk that finishes a commit when the test says so."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TypeAlias

import pytest

from agent_service.store.group_commit import GroupCommit

Caller: TypeAlias = asyncio.Future[Sequence[str | Exception]]


class DiskFull(Exception):
    pass


class Disk:
    """Tells of each commit that begins, and finishes or fails it when told to."""

    def __init__(self) -> None:
        self._begun: asyncio.Queue[Sequence[str]] = asyncio.Queue()
        self._finished: asyncio.Queue[Exception | None] = asyncio.Queue()

    async def commit(self, items: Sequence[str]) -> Sequence[str]:
        self._begun.put_nowait(items)
        if error := await self._finished.get():
            raise error
        return [item.upper() for item in items]

    async def begun(self) -> str:
        """The items of the next commit that begins."""
        async with asyncio.timeout(30):
            return "".join(await self._begun.get())

    def finish(self, error: Exception | None = None) -> None:
        self._finished.put_nowait(error)


class Door:
    """Callers, each a task, at a group commit."""

    def __init__(self, disk: Disk, group: GroupCommit[str, str]) -> None:
        self.disk, self._group = disk, group

    def post(self, *callers: str) -> list[Caller]:
        """A caller for each word, with an item for each of its letters."""
        return [self._group.submit(items) for items in callers]

    async def post_first(self, item: str) -> Caller:
        """A caller whose commit is in flight."""
        (first,) = self.post(item)
        assert await self.disk.begun() == item
        return first


@asynccontextmanager
async def door(most: int = 500) -> AsyncIterator[Door]:
    disk = Disk()
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        yield Door(disk, GroupCommit(disk.commit, most, tasks))


async def outcomes(callers: Sequence[Caller]) -> list[str | type[BaseException]]:
    """What each caller got for its items, or what was raised to it or failed the first of them."""
    async with asyncio.timeout(30):
        results = await asyncio.gather(*callers, return_exceptions=True)
    return [told(result) for result in results]


def told(result: Sequence[str | Exception] | BaseException) -> str | type[BaseException]:
    if isinstance(result, BaseException):
        return type(result)
    words = [one for one in result if isinstance(one, str)]
    return "".join(words) if words else type(result[0])


async def test_a_lone_item_is_committed_at_once_and_alone() -> None:
    async with door() as at:
        for item in "abc":
            caller = await at.post_first(item)
            at.disk.finish()
            assert await caller == [item.upper()]


async def test_what_arrives_in_flight_goes_into_the_next_group_and_outcomes_keep_their_order() -> None:
    async with door() as at:
        first = await at.post_first("a")
        callers = at.post("b", "c", "d")
        at.disk.finish()
        assert await at.disk.begun() == "bcd"
        late = at.post("e")
        at.disk.finish()
        assert await outcomes([first, *callers]) == ["A", "B", "C", "D"]
        assert await at.disk.begun() == "e"
        at.disk.finish()
        assert await outcomes(late) == ["E"]


async def test_a_group_holds_no_more_than_so_many() -> None:
    async with door(most=2) as at:
        callers = [await at.post_first("a"), *at.post("b", "c", "d", "e", "f")]
        for group in ("bc", "de", "f"):
            at.disk.finish()
            assert await at.disk.begun() == group
        at.disk.finish()
        assert await outcomes(callers) == ["A", "B", "C", "D", "E", "F"]


async def test_an_error_reaches_every_caller_of_its_group_and_later_groups_go_well() -> None:
    async with door() as at:
        first = await at.post_first("a")
        unlucky = at.post("b", "c")
        at.disk.finish()
        await at.disk.begun()
        later = at.post("d")
        at.disk.finish(DiskFull())
        at.disk.finish()
        assert await outcomes([first, *unlucky, *later]) == ["A", DiskFull, DiskFull, "D"]


async def test_the_items_of_one_caller_go_into_the_same_group_in_their_order() -> None:
    async with door(most=4) as at:
        callers = [await at.post_first("a"), *at.post("bcd", "ef", "ghijkl", "m")]
        for group in ("bcd", "ef", "ghijkl", "m"):
            at.disk.finish()
            assert await at.disk.begun() == group
        at.disk.finish()
        assert await outcomes(callers) == ["A", "BCD", "EF", "GHIJKL", "M"]


@pytest.mark.parametrize("error", [None, DiskFull()])
async def test_a_caller_that_goes_away_takes_nothing_with_it(error: Exception | None) -> None:
    async with door() as at:
        in_flight = await at.post_first("a")
        waits, stays = at.post("b", "c")
        await asyncio.sleep(0)
        for gone in (in_flight, waits):
            gone.cancel()
        at.disk.finish()
        assert await at.disk.begun() == "bc"
        at.disk.finish(error)
        assert await outcomes([in_flight, waits, stays]) == [
            asyncio.CancelledError,
            asyncio.CancelledError,
            type(error) if error else "C",
        ]


async def test_closing_waits_for_everything_that_was_submitted() -> None:
    async with door(most=1) as at:
        callers = [await at.post_first("a"), *at.post("b", "c")]
        await asyncio.sleep(0)
        for _ in callers:
            at.disk.finish()
    assert all(caller.done() for caller in callers)
    assert await outcomes(callers) == ["A", "B", "C"]


async def test_closing_by_an_error_leaves_no_caller_waiting() -> None:
    callers: list[Caller] = []

    async def close_with_callers() -> None:
        async with door() as at:
            callers.extend([await at.post_first("a"), *at.post("b", "c")])
            await asyncio.sleep(0)
            raise DiskFull

    with pytest.raises(ExceptionGroup):
        await close_with_callers()
    assert await outcomes(callers) == [asyncio.CancelledError] * 3
