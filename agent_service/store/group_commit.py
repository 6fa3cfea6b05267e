"""One commit for what arrives together."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import islice, repeat
from typing import Generic, TypeAlias, TypeVar

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")

_Caller: TypeAlias = asyncio.Future[Sequence[Outcome | Exception]]


class GroupCommit(Generic[Item, Outcome]):
    """What arrives while a commit is in flight goes into the next one; nobody waits for a timer.

    `commit` gives an outcome for each item, in order; what it raises is the outcome of every item of the
    group. A caller that goes away takes nothing with it: the commit happens for the others, and for it.
    """

    def __init__(
        self,
        commit: Callable[[Sequence[Item]], Awaitable[Sequence[Outcome]]],
        most: int,
        tasks: asyncio.TaskGroup,
        idle: Callable[[], object] = lambda: None,
    ) -> None:
        """At most so many items a commit, unless one caller brings more. The commits are made in the task
        group; after the last, `idle`."""
        self._commit, self._most, self._tasks, self._idle = commit, most, tasks, idle
        self._waiting: list[tuple[Sequence[Item], _Caller[Outcome]]] = []
        self._busy = False

    def submit(self, items: Sequence[Item]) -> _Caller[Outcome]:
        """What becomes of each of the items, once the commit that they all go into has happened."""
        caller: _Caller[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.append((items, caller))
        if not self._busy:
            self._busy = True
            self._tasks.create_task(self._drain())
        return caller

    async def _drain(self) -> None:
        try:
            while self._waiting:
                await self._commit_group(self._take())
        finally:
            self._busy = False
            self._idle()
            left, self._waiting = self._waiting, []
            for _, caller in left:
                caller.cancel()

    def _take(self) -> Sequence[tuple[Sequence[Item], _Caller[Outcome]]]:
        """Those of the next callers that fit a commit."""
        count, room = 0, self._most
        for items, _ in self._waiting:
            room -= len(items)
            if count and room < 0:
                break
            count += 1
        taken, self._waiting = self._waiting[:count], self._waiting[count:]
        return taken

    async def _commit_group(self, group: Sequence[tuple[Sequence[Item], _Caller[Outcome]]]) -> None:
        outcomes: Iterator[Outcome | Exception]
        try:
            outcomes = iter(await self._commit([item for items, _ in group for item in items]))
        except Exception as error:
            outcomes = repeat(error)
        except asyncio.CancelledError:
            for _, caller in group:
                caller.cancel()
            raise
        for items, caller in group:
            of_items = list(islice(outcomes, len(items)))
            if not caller.done():
                caller.set_result(of_items)
