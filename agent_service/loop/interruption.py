"""Cancels what an agent waits for when somebody does not want to wait for it."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress

from agent_service.domain import Lease
from agent_service.errors import LeaseLost, Unavailable
from agent_service.store.safe_points import SafePoints
from agent_service.wakeups import Wakeups


class Interrupted(Exception):
    """An interrupt with immediate delivery waits."""


class Interruption:
    """Looks, at every hint and poll, whether an interrupt with immediate delivery waits."""

    def __init__(self, safe_points: SafePoints, wakeups: Wakeups, poll_seconds: float) -> None:
        self._safe_points, self._wakeups, self._poll_seconds = safe_points, wakeups, poll_seconds

    @asynccontextmanager
    async def of(self, lease: Lease) -> AsyncIterator[None]:
        """What is done inside is cancelled, and Interrupted raised in its place, as soon as one waits; or
        LeaseLost, if the session is no longer ours."""
        task = asyncio.current_task()
        assert task
        before = task.cancelling()
        guard = asyncio.create_task(self._cancel_when_due(lease, task))
        try:
            yield
        except asyncio.CancelledError:
            if not guard.done() or task.uncancel() > before:
                raise
            raise guard.result() from None
        finally:
            guard.cancel()
            with suppress(asyncio.CancelledError):
                await guard

    async def _cancel_when_due(self, lease: Lease, task: asyncio.Task[None]) -> Interrupted | LeaseLost:
        """What it was cancelled for."""
        reason: Interrupted | LeaseLost
        with self._wakeups.watch(lease.session_id) as watch:
            while True:
                try:
                    if await self._safe_points.immediate_waits(lease):
                        reason = Interrupted()
                        break
                except LeaseLost as lost:
                    reason = lost
                    break
                except Unavailable:
                    """It is looked again at the next poll."""
                while not await watch.wait(self._poll_seconds):
                    continue  # Only text came.
        task.cancel()
        return reason


async def to_its_end(write: Coroutine[None, None, None]) -> None:
    """Wait for a write to its end, whatever is cancelled meanwhile: who goes on must know what it came to."""
    task = asyncio.ensure_future(write)
    cancelled = False
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            cancelled = True
    task.result()
    if cancelled:
        raise asyncio.CancelledError
