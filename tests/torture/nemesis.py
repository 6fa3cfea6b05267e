"""Does what was planned, and undoes it."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import assert_never

from tests.torture import faults
from tests.torture.fleet import Fleet
from tests.torture.history import History
from tests.torture.plan import Fault, Kind

# A server of PostgreSQL is asked for them, so it has to be there.
_BY_POSTGRES = {Kind.DROP_SIGNALS, Kind.LISTENER_KILL}


class Nemesis:
    def __init__(self, fleet: Fleet, history: History) -> None:
        self._fleet, self._history = fleet, history
        # What befalls one target comes one after the other.
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def carry_out(self, plan: Iterable[Fault]) -> None:
        """Return when all is undone."""
        began = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            for fault in plan:
                await asyncio.sleep(began + fault.at_seconds - time.monotonic())
                tasks.create_task(self._carry_out(fault))

    async def _carry_out(self, fault: Fault) -> None:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._turns[fault.target])
            if fault.kind in _BY_POSTGRES:
                await stack.enter_async_context(self._turns["postgres"])
            with self._history.fault(fault.kind, fault.target):
                async with self._done(fault):
                    await asyncio.sleep(fault.lasts_seconds)

    def _done(self, fault: Fault) -> AbstractAsyncContextManager[None]:
        fleet, target = self._fleet, fault.target
        match fault.kind:
            case Kind.KILL:
                return faults.killed(fleet.services[target])
            case Kind.FREEZE:
                return faults.frozen(fleet.services[target])
            case Kind.CLOCK_SKEW:
                return faults.skewed(fleet.services[target])
            case Kind.CUT:
                return faults.cut(fleet.lines[target], fault.way)
            case Kind.DELAY:
                return faults.held(fleet.lines[target])
            case Kind.HALF_CLOSE:
                return faults.half_closed(fleet.lines[target], fault.way)
            case Kind.MODEL_DOWN:
                return faults.down(fleet.models[target])
            case Kind.TOOLS_DOWN:
                return faults.down(fleet.tools)
            case Kind.POSTGRES_RESTART:
                return faults.crashed(fleet.postgres)
            case Kind.FAILOVER:
                return faults.failed_over(fleet.postgres)
            case Kind.DROP_SIGNALS:
                return faults.deaf(fleet.postgres, target)
            case Kind.LISTENER_KILL:
                return faults.unheard(fleet.postgres, target)
            case unreachable:
                assert_never(unreachable)
