"""A database that something befalls at a chosen transaction."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from asyncpg.transaction import Transaction

from agent_service.domain import Lease
from agent_service.errors import Unavailable
from agent_service.store.database import Database, Hot
from agent_service.store.safe_points import SafePoints
from agent_service.wakeups import Wakeups
from tests.loop.schedules.plan import Cut, Fault
from tests.loop.scripted import Killed

_HANGS = (Cut.HANGS_AND_IS_LOST, Cut.HANGS_AND_LANDS)
_DIES = (Cut.DIES_BEFORE, Cut.DIES_AFTER)
_COMMITTED = (Cut.COMMITTED, Cut.DIES_AFTER)


class FaultyDatabase(Database):
    """The same database to a worker that never learns what became of one of its transactions."""

    def __init__(self, whole: Database, fault: Fault | None, strikes: Callable[[], None]) -> None:
        """Calls `strikes` when the fault does."""
        self._whole, self._fault, self._strikes = whole, fault, strikes
        self._count, self._dead = 0, False
        self._hanging: tuple[Transaction, AsyncExitStack] | None = None

    @property
    def hangs(self) -> bool:
        """Whether a transaction is neither committed nor rolled back yet."""
        return self._hanging is not None

    async def come_to(self) -> None:
        """Let the transaction that hangs have its outcome."""
        if self._hanging and self._fault:
            transaction, stack = self._hanging
            self._hanging = None
            async with stack:
                lands = self._fault.cut is Cut.HANGS_AND_LANDS
                await (transaction.commit() if lands else transaction.rollback())

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Hot]:
        self._count += 1
        if self._dead:
            raise Killed
        async with AsyncExitStack() as stack:
            connection = await stack.enter_async_context(self._whole.connection())
            if self._fault and self._count == self._fault.number:
                async with self._cut(self._fault.cut, connection, stack):
                    yield connection
            else:
                yield connection

    @asynccontextmanager
    async def _cut(self, cut: Cut, connection: Hot, stack: AsyncExitStack) -> AsyncIterator[None]:
        """Let what is done inside be done, or not, and never be heard of."""
        transaction = connection.transaction()
        await transaction.start()
        try:
            yield
        except BaseException:
            await transaction.rollback()
            raise
        self._strikes()
        if cut in _HANGS:
            self._hanging = transaction, stack.pop_all()
        else:
            await (transaction.commit() if cut in _COMMITTED else transaction.rollback())
        self._dead = cut in _DIES
        raise Killed if self._dead else Unavailable("the connection was cut")


class WatchedSafePoints(SafePoints):
    """On a faulty database. Whoever only looks whether an interrupt waits has the one without its faults."""

    def __init__(self, database: Database, wakeups: Wakeups, whole: SafePoints) -> None:
        super().__init__(database, wakeups, render_version=1)
        self._whole = whole

    async def immediate_waits(self, lease: Lease, after_revision: int) -> bool:
        return await self._whole.immediate_waits(lease, after_revision)
