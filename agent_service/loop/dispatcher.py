"""Claims due sessions and runs an agent for each, as long as this replica's lease holds."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

import structlog

from agent_service.domain import Lease, ReplicaId, SessionId
from agent_service.errors import Unavailable
from agent_service.loop.lease_keeper import LeaseKeeper
from agent_service.loop.spread import Spread
from agent_service.store.interrupts import Interrupts
from agent_service.store.leases import BATCH, Claim, Leases
from agent_service.wakeups import Wakeups

# The most interrupts that a poll settles as expired.
MAX_SWEPT = 500

_log = structlog.get_logger(__name__)


class Dispatcher:
    """Looks for due sessions at every hint about one that it does not run, and for all work at every poll.

    Hints come from the commits of this process, so that replicas do not fight for what is deposited, and from
    replicas that are about to stop. For what one has no room for, the others come at their polls.
    """

    def __init__(
        self,
        leases: Leases,
        interrupts: Interrupts,
        keeper: LeaseKeeper,
        run: Callable[[Claim], Awaitable[None]],
        wakeups: Wakeups,
        spread: Spread,
        stopping: asyncio.Event,
        max_sessions: int,
        poll_seconds: float,
    ) -> None:
        self._leases, self._interrupts, self._keeper = leases, interrupts, keeper
        self._run, self._spread, self._stopping = run, spread, stopping
        self._max_sessions, self._poll_seconds = max_sessions, poll_seconds
        # By lease: a session that was lost and taken again may still have its last task, on its way out.
        self._running: dict[Lease, asyncio.Task[None]] = {}
        self._was_cut: set[Lease] = set()
        self._busy: Counter[SessionId] = Counter()
        self._replica: ReplicaId | None = None
        self._former: ReplicaId | None = None
        # Whether the last poll had no room for all that it might have found.
        self._left_standing = False
        self._hinted = asyncio.Event()
        self._next_poll = 0.0
        self._wakeups = wakeups
        wakeups.listen(self._hear)

    def stop(self) -> None:
        """Claim nothing more. Turns leave off at their next safe point, open, for others to go on with."""
        self._stopping.set()
        self._hinted.set()

    async def serve(self, drain_seconds: float) -> None:
        """Run sessions until `stop`; then wait so long for safe points, and cut off what came to none."""
        async with asyncio.TaskGroup() as tasks:
            while not self._stopping.is_set():
                try:
                    await self._look_for_work(tasks)
                except Unavailable as error:
                    _log.warning("nothing claimed", error=str(error))
                except Exception:
                    # Whatever it is, the next poll may go better, and what runs is to go on.
                    _log.exception("nothing claimed")
                await self._wait()
            tasks.create_task(self._tell(partial(self._leases.take_at_most, max_sessions=0)))
            if self._running:
                await asyncio.wait(self._running.values(), timeout=drain_seconds)
            self._cut_off()
        await self._tell(self._leases.give_back)
        await self._tell(self._leases.sign_off)

    async def _tell(self, tell: Callable[[ReplicaId], Awaitable[None]]) -> None:
        """Let the other replicas know, if the database can be had."""
        if not (replica := self._keeper.replica):
            return
        try:
            await tell(replica)
        except Unavailable as error:
            _log.warning("others not told", error=str(error))

    async def _look_for_work(self, tasks: asyncio.TaskGroup) -> None:
        replica = self._keeper.replica
        if replica != self._replica:
            # What this process ran under another lease, others may have by now.
            self._cut_off()
            if replica:
                await self._leases.take_at_most(replica, self._max_sessions)
            self._former, self._replica = self._replica or self._former, replica
        if replica is None:
            return
        if self._left_standing:
            await self._take_up(tasks, replica)
        await self._claim(tasks, partial(self._leases.claim_due, replica))
        if time.monotonic() >= self._next_poll:
            self._next_poll = time.monotonic() + self._poll_seconds
            await self._poll(tasks, replica)

    async def _poll(self, tasks: asyncio.TaskGroup, replica: ReplicaId) -> None:
        await self._take_up(tasks, replica)
        held = await self._leases.held(replica)
        self._forget_lost(held)
        self._spread.plan(len(held), await self._leases.others(replica))
        if failed := await self._leases.fail_exhausted():
            _log.error("session failed", session_id=str(failed))
            self._wakeups.hint(failed)
        await self._interrupts.expire(MAX_SWEPT)

    async def _take_up(self, tasks: asyncio.TaskGroup, replica: ReplicaId) -> None:
        """Claim what stands still since a worker lost it or died. What there is no room for comes before
        anything else that is due as soon as there is."""
        leases = self._leases
        # First, for some of its own may be among those of the dead.
        await self._claim(tasks, partial(leases.claim_own, replica, self._running, former=self._former))
        await self._claim(tasks, partial(leases.claim_from_dead, replica))
        await self._claim(tasks, partial(leases.claim_suspects, replica))
        self._left_standing = not self._room

    @property
    def _room(self) -> int:
        return max(0, self._max_sessions - len(self._running))

    async def _claim(self, tasks: asyncio.TaskGroup, claim: Callable[[int], Awaitable[list[Claim]]]) -> None:
        """Take and run what there is room for, batch by batch."""
        while (room := self._room) and not self._stopping.is_set():
            claimed = await claim(room)
            for one in claimed:
                lease = one.lease
                self._busy[lease.session_id] += 1
                self._running[lease] = tasks.create_task(self._run_one(one))
                self._running[lease].add_done_callback(partial(self._ran, lease))
            if len(claimed) < BATCH:
                return

    async def _run_one(self, claim: Claim) -> None:
        session_id = str(claim.lease.session_id)
        try:
            await self._run(claim)
        except Unavailable as error:
            _log.warning("session forgotten", session_id=session_id, error=str(error))
        except Exception:
            _log.exception("session forgotten", session_id=session_id)

    def _ran(self, lease: Lease, _: asyncio.Task[None]) -> None:
        """Hints about a session that runs go to nobody: look once more when it does no longer."""
        del self._running[lease]
        self._was_cut.discard(lease)
        self._busy -= Counter([lease.session_id])
        self._hinted.set()

    def _forget_lost(self, held: set[Lease]) -> None:
        """Cut off what is no longer held: the session ended, or somebody else has it."""
        for lease, task in self._running.items():
            if lease not in held:
                self._cut(lease, task)

    def _cut_off(self) -> None:
        for lease, task in self._running.items():
            self._cut(lease, task)

    def _cut(self, lease: Lease, task: asyncio.Task[None]) -> None:
        """Once: a task on its way out gives its session back, and is not to be disturbed."""
        if lease not in self._was_cut:
            self._was_cut.add(lease)
            task.cancel()

    async def _wait(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._poll_seconds):
                await self._hinted.wait()
            self._hinted.clear()

    def _hear(self, session_id: SessionId | None) -> None:
        if session_id is None or not self._busy[session_id]:
            self._hinted.set()
