"""Cancels what an agent waits for when somebody does not want to wait for it."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog

from agent_service.domain import Lease
from agent_service.errors import LeaseLost
from agent_service.store.safe_points import SafePoints
from agent_service.wakeups import Wakeups

_log = structlog.get_logger(__name__)


class Interrupted(Exception):
    """An interrupt with immediate delivery waits."""


@dataclass(slots=True)
class _Attention:
    """What a guard and the task that it guards know of each other."""

    over: bool = False
    reason: Interrupted | LeaseLost | None = None


class Interruption:
    """Looks, at every hint and poll, whether an interrupt with immediate delivery waits."""

    def __init__(self, safe_points: SafePoints, wakeups: Wakeups, poll_seconds: float) -> None:
        self._safe_points, self._wakeups, self._poll_seconds = safe_points, wakeups, poll_seconds

    async def comes(self, lease: Lease, after_revision: int) -> None:
        """Return as soon as an immediate interrupt waits that was posted after a revision. Raises LeaseLost
        as soon as the session is no longer ours."""
        reason = await self._reason(lease, after_revision)
        if isinstance(reason, LeaseLost):
            raise reason

    @asynccontextmanager
    async def of(self, lease: Lease, after_revision: int | None) -> AsyncIterator[None]:
        """What is done inside is cancelled as soon as the session is no longer ours, with LeaseLost raised in
        its place, or as soon as an immediate interrupt waits that was posted after a revision, with
        Interrupted. Without a revision no interrupt counts."""
        task = asyncio.current_task()
        assert task
        before, attention = task.cancelling(), _Attention()
        guard = asyncio.create_task(self._cancel_when_due(lease, after_revision, task, attention))
        try:
            yield
        except asyncio.CancelledError:
            # Somebody else's cancellation, alone or with the guard's, goes on.
            if attention.reason is None or task.uncancel() > before:
                raise
            raise attention.reason from None
        finally:
            attention.over = True
            guard.cancel()
            await asyncio.wait({guard})

    async def _cancel_when_due(
        self, lease: Lease, after_revision: int | None, task: asyncio.Task[None], attention: _Attention
    ) -> None:
        reason = await self._reason(lease, after_revision)
        if not attention.over:
            attention.reason = reason
            task.cancel()

    async def _reason(self, lease: Lease, after_revision: int | None) -> Interrupted | LeaseLost:
        """Wait for a reason to stop."""
        with self._wakeups.watch(lease.session_id) as watch:
            while True:
                reason = await self._look(lease, after_revision)
                if reason:
                    return reason
                while not await watch.wait(self._poll_seconds):
                    continue  # Only text came.

    async def _look(self, lease: Lease, after_revision: int | None) -> Interrupted | LeaseLost | None:
        try:
            waits = await self._safe_points.immediate_waits(lease, after_revision or 0)
        except LeaseLost as lost:
            return lost
        except Exception as error:
            # Whatever it is, the request goes on, and the next poll looks again.
            _log.warning("not looked", session_id=str(lease.session_id), error=repr(error))
            return None
        return Interrupted() if waits and after_revision is not None else None


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
