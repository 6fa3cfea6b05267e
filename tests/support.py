"""What tests share: the store opened whole, and things to put into it."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import TypeVar
from uuid import uuid4

from agent_service.domain import (
    Delivery,
    Deposit,
    Interrupt,
    Lease,
    MessageType,
    NewMessage,
    NewSession,
    Notification,
    Nudge,
    Place,
    Placement,
    Portion,
    Profile,
    ReplicaId,
    Session,
    SessionConfig,
    SessionId,
    SessionMode,
    Terms,
    Text,
    ToolCall,
    ToolResponse,
    Usage,
)
from agent_service.errors import LeaseLost
from agent_service.settings import Limits
from agent_service.store.database import Database
from agent_service.store.deposits import Deposits
from agent_service.store.held import Admission
from agent_service.store.interrupts import Interrupts
from agent_service.store.leases import CLAIMED_COLUMNS, Claim, Leases, register
from agent_service.store.model_profiles import ModelProfiles
from agent_service.store.room import Room
from agent_service.store.safe_points import SafePoint, SafePoints
from agent_service.store.servers import Own
from agent_service.store.sessions import Sessions
from agent_service.store.streams import Streams
from agent_service.store.transcript import Snapshot, Transcript
from agent_service.wakeups import Wakeups

T = TypeVar("T")

# Where nobody listens.
NOWHERE = "127.0.0.1:1"
LIMITS = Limits(max_text_bytes=16384, max_data_bytes=16384, max_pending=1000, max_pending_per_source=250)


IN_PLACE = Profile(Placement.SYSTEM)


def in_place(name: str) -> Profile:
    """What is known of any model."""
    return IN_PLACE


def terms(session: Session) -> Terms:
    profiles = Placement.SYSTEM, IN_PLACE, IN_PLACE
    return Terms(session.goal, session.config, "You are an agent.", "[]", (), *profiles)


def admit_all(due: Sequence[Interrupt]) -> Portion:
    return Portion(len(due))


_AS_CLAIMED = f"SELECT {CLAIMED_COLUMNS} FROM sessions WHERE session_id = $1 AND lease_epoch = $2"


@dataclass(frozen=True)
class Work:
    """What a holder knows of its place."""

    lease: Lease
    next_position: int

    @property
    def place(self) -> Place:
        return Place(1, 1, 1)


@dataclass(frozen=True)
class Store:
    """Everything that a door or a loop has of the store."""

    database: Database
    wakeups: Wakeups
    sessions: Sessions
    deposits: Deposits
    interrupts: Interrupts
    transcript: Transcript
    safe_points: SafePoints
    room: Room
    leases: Leases
    streams: Streams
    model_profiles: ModelProfiles

    async def session(
        self,
        mode: SessionMode = SessionMode.AUTONOMOUS,
        cooldown_seconds: float = 0,
        labels: Mapping[str, str] | None = None,
    ) -> SessionId:
        config = SessionConfig("demo", mode=mode, cooldown=timedelta(seconds=cooldown_seconds))
        created = await self.sessions.create(NewSession("", "Keep the lamp.", config, labels or {}))
        return created.session.session_id

    async def replica(self, lease_seconds: float = 60, address: str = NOWHERE) -> ReplicaId:
        replica = ReplicaId(uuid4())
        async with self.own_connection() as connection:
            await register(connection, replica, address, lease_seconds)
        return replica

    async def take(self, session_id: SessionId, address: str = NOWHERE) -> Claim:
        """Take a due session, by a replica of its own."""
        claims = await self.leases.claim_due(await self.replica(address=address), 1000)
        return next(claim for claim in claims if claim.lease.session_id == session_id)

    async def claim(self, session_id: SessionId, address: str = NOWHERE) -> Lease:
        return (await self.take(session_id, address)).lease

    async def load(self, lease: Lease) -> Snapshot:
        """What a holder would find if it took the session now."""
        async with self.database.connection() as connection:
            row = await connection.fetchrow(_AS_CLAIMED, lease.session_id, lease.epoch)
        if row is None:
            raise LeaseLost
        return await self.transcript.load(Claim(lease, row, time.monotonic()))

    async def begin_turn(
        self, lease: Lease, terms: Callable[[Session], Terms] = terms, admit: Admission = admit_all
    ) -> SafePoint | None:
        """As a holder does that has just loaded the session."""
        return await self.safe_points.begin_turn(lease, (await self.load(lease)).standing, terms, admit)

    async def open_turn(self, session_id: SessionId, address: str = NOWHERE) -> Work:
        """A session in the hands of a holder, in the first round of a turn."""
        lease = await self.claim(session_id, address)
        assert await self.begin_turn(lease)
        position = 1 + await self.outstanding(session_id)
        await self.transcript.append(lease, position, Place(1, 0, 1), [user("Begin.")], Usage())
        assert await self.safe_points.begin_round(lease, position + 1, 1, admit_all)
        return Work(lease, position + 1)

    async def outstanding(self, session_id: SessionId) -> int:
        return (await self.sessions.get(session_id)).outstanding

    async def kinds(self, session_id: SessionId) -> list[str]:
        """The types of the events so far, whose revisions have no gaps."""
        async with self.database.connection() as connection:
            rows = await connection.fetch(
                "SELECT e.revision, e.type, s.revision AS newest "
                "FROM events e JOIN sessions s USING (session_id) WHERE session_id = $1 ORDER BY e.revision",
                session_id,
            )
        assert [row["revision"] for row in rows] == list(range(1, len(rows) + 1))
        assert {row["newest"] for row in rows} == {len(rows)}
        return [row["type"] for row in rows]

    async def nudge(self, session_id: SessionId, text: str = "Look north.", **changes: object) -> Interrupt:
        return (await self.deposits.deposit(deposit(session_id, text, **changes))).interrupt

    async def overdue(self, session_id: SessionId, text: str = "Too late.") -> Interrupt:
        """A pending interrupt whose expire time has come."""
        posted = await self.nudge(session_id, text, expire_time=datetime.now(UTC) + timedelta(hours=1))
        async with self.database.connection() as connection:
            await connection.execute(
                "UPDATE messages SET expire_time = now() WHERE message_id = $1", posted.interrupt_id
            )
        return posted

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
            Interrupts(database, wakeups),
            Transcript(database, wakeups),
            SafePoints(database, wakeups, render_version=1),
            Room(database, wakeups),
            Leases(database),
            Streams(database),
            ModelProfiles(database),
        )


def user(text: str) -> NewMessage:
    return NewMessage(MessageType.USER, Text(text), "inner_voice")


def assistant(text: str) -> NewMessage:
    return NewMessage(MessageType.ASSISTANT, Text(text))


def call(call_id: str, name: str = "now", arguments_json: str = "{}") -> NewMessage:
    return NewMessage(MessageType.TOOL_CALL, ToolCall(call_id, name, arguments_json))


def summary(text: str) -> NewMessage:
    return NewMessage(MessageType.SUMMARY, Text(text))


def response(call_id: str, content: str = "noon", name: str = "now") -> NewMessage:
    return NewMessage(MessageType.TOOL_RESPONSE, ToolResponse(call_id, name, content))


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


async def in_order(
    store: Store, session_id: SessionId, *steps: Callable[[], Awaitable[T]]
) -> list[T | Exception]:
    """Start the steps while somebody holds the session's row, each waiting for it before the next is started,
    and then let them go: they get the row in this order. Gives what each returned or raised."""
    async with store.own_connection() as holder:
        async with holder.transaction():
            await holder.execute("SELECT FROM sessions WHERE session_id = $1 FOR UPDATE", session_id)
            started = []
            for n, step in enumerate(steps, 1):
                started.append(asyncio.ensure_future(step()))
                await until_blocked(store, n)
        results = await asyncio.gather(*started, return_exceptions=True)
    return [
        result for result in results if not isinstance(result, BaseException) or isinstance(result, Exception)
    ]


async def until_blocked(store: Store, count: int = 1) -> None:
    """Wait until so many statements of this database wait for a lock."""
    async with store.own_connection() as observer:

        async def blocked() -> bool:
            waiting = await observer.fetchval(
                "SELECT count(*) FROM pg_stat_activity "
                "WHERE wait_event_type = 'Lock' AND datname = current_database()"
            )
            return bool(waiting == count)

        await until(blocked)
