"""Keeps this replica's lease, by a thread and a connection of its own: a busy event loop must not cost it.

One that hangs must: its sessions are for others to go on with.
"""

import asyncio
import threading
import time
from types import TracebackType
from typing import Self
from uuid import uuid4

import structlog

from agent_service.domain import ReplicaId
from agent_service.store.database import Database, translated
from agent_service.store.leases import register, renew
from agent_service.store.servers import Own

# So many signs of life are asked of the event loop, one at each renewal, before it is taken to hang.
MAX_UNANSWERED = 3

_log = structlog.get_logger(__name__)


class LeaseKeeper:
    """Registers the replica and renews its lease at a third of its time, until it is left.

    A lease that ran out is gone: the replica registers anew, under another id, and holds nothing.
    """

    def __init__(self, database: Database, address: str, lease_seconds: float) -> None:
        self._database, self._address, self._lease_seconds = database, address, lease_seconds
        self._current: tuple[ReplicaId, float] | None = None
        self._loop, self._unanswered = asyncio.get_running_loop(), 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._keep()), name="lease", daemon=True)

    async def __aenter__(self) -> Self:
        """Raises Unavailable where the replica cannot be registered."""
        with translated():
            connection = await self._database.connect(self._lease_seconds)
            try:
                await self._hold_once(connection)
            finally:
                await connection.close(timeout=1)
        self._thread.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        await asyncio.to_thread(self._thread.join)

    @property
    def replica(self) -> ReplicaId | None:
        """This replica's id while its lease can be trusted, by this process's own clock; None otherwise."""
        current = self._current
        return current[0] if current and time.monotonic() < current[1] else None

    async def _keep(self) -> None:
        while not self._stop.wait(self._lease_seconds / 3):
            try:
                with translated():
                    await self._hold_on_one_connection()
            except Exception as error:
                # Whatever it is: while it lasts there is no lease, and nothing is run.
                _log.warning("lease not renewed", error=repr(error))

    async def _hold_on_one_connection(self) -> None:
        """Renew until told to stop. Nothing else runs in this thread, so that it may block."""
        connection = await self._database.connect(self._lease_seconds / 3)
        try:
            await self._hold_once(connection)
            while not self._stop.wait(self._lease_seconds / 3):
                await self._hold_once(connection)
        finally:
            await connection.close(timeout=1)

    async def _hold_once(self, connection: Own) -> None:
        if self._loop_hangs():
            return
        before = time.monotonic()
        held = self._current
        if held is None or not await renew(connection, held[0], self._lease_seconds):
            if held:
                _log.warning("lease lapsed", replica_id=str(held[0]))
            held = ReplicaId(uuid4()), before
            await register(connection, held[0], self._address, self._lease_seconds)
            _log.info("replica registered", replica_id=str(held[0]), address=self._address)
        self._current = held[0], before + self._lease_seconds

    def _loop_hangs(self) -> bool:
        """Whether the event loop that runs the sessions has left the last signs of life unanswered; asks for
        the next one. A process that is frozen asks for none, and is not taken for one that hangs."""
        self._unanswered += 1
        self._loop.call_soon_threadsafe(self._answer)
        if self._unanswered == MAX_UNANSWERED + 1:
            _log.error("event loop hangs", seconds=self._lease_seconds)
        return self._unanswered > MAX_UNANSWERED

    def _answer(self) -> None:
        self._unanswered = 0
