"""What tests share: the store opened whole, and things to put into it."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from uuid import uuid4

from agent_service.domain import (
    Delivery,
    Deposit,
    Interrupt,
    Lease,
    NewSession,
    Notification,
    Nudge,
    ReplicaId,
    SessionConfig,
    SessionId,
    SessionMode,
)
from agent_service.settings import Limits
from agent_service.store.database import Database, Own
from agent_service.store.deposits import Deposits
from agent_service.store.leases import Leases, register
from agent_service.store.safe_points import Frozen, SafePoints
from agent_service.store.sessions import Sessions
from agent_service.store.streams import Streams
from agent_service.store.transcript import Transcript
from agent_service.wakeups import Wakeups

LIMITS = Limits(max_text_bytes=16384, max_data_bytes=16384, max_pending=1000, max_pending_per_source=250)
FROZEN = Frozen("You are an agent.", [])


@dataclass(frozen=True)
class Store:
    """Everything that a door or a loop has of the store."""

    database: Database
    wakeups: Wakeups
    sessions: Sessions
    deposits: Deposits
    transcript: Transcript
    safe_points: SafePoints
    leases: Leases
    streams: Streams

    async def session(
        self, mode: SessionMode = SessionMode.AUTONOMOUS, cooldown_seconds: float = 0
    ) -> SessionId:
        config = SessionConfig("demo", mode=mode, cooldown=timedelta(seconds=cooldown_seconds))
        created = await self.sessions.create(NewSession("", "Keep the lamp.", config, {}))
        return created.session.session_id

    async def replica(self, lease_seconds: float = 60) -> ReplicaId:
        replica = ReplicaId(uuid4())
        async with self.own_connection() as connection:
            await register(connection, replica, "127.0.0.1:1", lease_seconds)
        return replica

    async def claim(self, session_id: SessionId) -> Lease:
        """Take a due session, by a replica of its own."""
        leases = await self.leases.claim_due(await self.replica(), 1000)
        return next(lease for lease in leases if lease.session_id == session_id)

    async def nudge(self, session_id: SessionId, text: str = "Look north.", **changes: object) -> Interrupt:
        return (await self.deposits.deposit(deposit(session_id, text, **changes))).interrupt

    @asynccontextmanager
    async def own_connection(self) -> AsyncIterator[Own]:
        connection = await self.database.connect()
        try:
            yield connection
        finally:
            await connection.close()


@asynccontextmanager
async def open_store(database: Database, limits: Limits = LIMITS) -> AsyncIterator[Store]:
    wakeups = Wakeups()
    async with Deposits(database, wakeups, limits) as deposits:
        yield Store(
            database,
            wakeups,
            Sessions(database, wakeups),
            deposits,
            Transcript(database, wakeups),
            SafePoints(database, wakeups, render_version=1),
            Leases(database),
            Streams(database),
        )


def deposit(
    session_id: SessionId,
    text: str = "Look north.",
    source: str = "operator",
    delivery: Delivery = Delivery.NEXT_ROUND,
    coalesce_key: str = "",
    expire_time: datetime | None = None,
    request_id: str = "",
    notification: Notification | None = None,
) -> Deposit:
    body = notification or Nudge(text)
    digest = sha256(repr((body, delivery, coalesce_key, expire_time)).encode()).digest()
    request_id = request_id or uuid4().hex
    return Deposit(session_id, source, "", body, delivery, coalesce_key, expire_time, request_id, digest)


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 30) -> None:
    """Wait for a condition that another task or process brings about."""
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline, f"still not so after {seconds} s"
        await asyncio.sleep(0.01)


async def until_blocked(connection: Own, count: int = 1) -> None:
    """Wait until so many statements of this database wait for a lock."""

    async def blocked() -> bool:
        waiting = await connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        return waiting == count

    await until(blocked)
