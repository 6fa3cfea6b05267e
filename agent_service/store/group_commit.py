"""One commit for what arrives together."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


class GroupCommit(Generic[Item, Outcome]):
    """What arrives while a commit is in flight goes into the next one; nobody waits for a timer.

    `commit` gives an outcome for each item, in order, or None for one that it left alone, which then goes to
    `hand_on` with its caller's end. What it raises is raised to every caller of the group. A caller that goes
    away takes nothing with it: the commit happens for the others, and for it.
    """

    def __init__(
        self,
        commit: Callable[[Sequence[Item]], Awaitable[Sequence[Outcome | None]]],
        most: int,
        tasks: asyncio.TaskGroup,
        hand_on: Callable[[Item, asyncio.Future[Outcome]], object],
        idle: Callable[[], object] = lambda: None,
    ) -> None:
        """At most so many items a commit. The commits are made in the task group; after the last, `idle`."""
        self._commit, self._most, self._tasks = commit, most, tasks
        self._hand_on, self._idle = hand_on, idle
        self._waiting: list[tuple[Item, asyncio.Future[Outcome]]] = []
        self._busy = False

    def submit(self, item: Item) -> asyncio.Future[Outcome]:
        """What becomes of the item, once the commit that it goes into has happened."""
        outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.take(item, outcome)
        return outcome

    def take(self, item: Item, outcome: asyncio.Future[Outcome]) -> None:
        """Take an item whose caller waits already."""
        self._waiting.append((item, outcome))
        if not self._busy:
            self._busy = True
            self._tasks.create_task(self._drain())

    async def _drain(self) -> None:
        try:
            while self._waiting:
                group, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
                await self._commit_group(group)
        finally:
            self._busy = False
            self._idle()
            left, self._waiting = self._waiting, []
            for _, outcome in left:
                outcome.cancel()

    async def _commit_group(self, group: Sequence[tuple[Item, asyncio.Future[Outcome]]]) -> None:
        waiting = [outcome for _, outcome in group]
        try:
            outcomes = await self._commit([item for item, _ in group])
        except Exception as error:
            for outcome in waiting:
                if not outcome.done():
                    outcome.set_exception(error)
        except asyncio.CancelledError:
            for outcome in waiting:
                outcome.cancel()
            raise
        else:
            for (item, outcome), result in zip(group, outcomes, strict=True):
                if result is None:
                    self._hand_on(item, outcome)
                elif not outcome.done():
                    outcome.set_result(result)
