"""One commit for what arrives together."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


class GroupCommit(Generic[Item, Outcome]):
    """What arrives while a commit is in flight goes into the next one; nobody waits for a timer.

    `commit` gives an outcome for each item, in order. What it raises is raised to every caller of the group.
    A caller that goes away takes nothing with it: the commit happens for the others, and for it.
    """

    def __init__(
        self,
        commit: Callable[[Sequence[Item]], Awaitable[Sequence[Outcome]]],
        most: int,
        tasks: asyncio.TaskGroup,
        idle: Callable[[], object] = lambda: None,
    ) -> None:
        """At most so many items a commit. The commits are made in the task group; after the last, `idle`."""
        self._commit, self._most, self._tasks, self._idle = commit, most, tasks, idle
        self._waiting: list[tuple[Item, asyncio.Future[Outcome]]] = []
        self._busy = False

    async def submit(self, item: Item) -> Outcome:
        """Wait for the commit that the item goes into."""
        outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, outcome))
        if not self._busy:
            self._busy = True
            self._tasks.create_task(self._drain())
        return await outcome

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
            for outcome, result in zip(waiting, outcomes, strict=True):
                if not outcome.done():
                    outcome.set_result(result)
