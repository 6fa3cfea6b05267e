"""Safe points: the transactions of a session's holder that read what waits and deliver it.

Each takes the session's row lock first, with the holder's epoch and next position compared, and reads the
messages in a second statement: one statement for both would read them as they were before the lock was had.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from agent_service.domain import (
    Delivery,
    EventType,
    Interrupt,
    Lease,
    Place,
    Placement,
    SessionMode,
    SessionState,
)
from agent_service.errors import LeaseLost
from agent_service.store.database import Database, Hot
from agent_service.store.ledger import Ledger, opened, write
from agent_service.store.rows import MESSAGE_COLUMNS, get, interrupt
from agent_service.wakeups import Wakeups

NEXT_ROUND_MODES = frozenset({Delivery.NEXT_ROUND, Delivery.IMMEDIATE})
ALL_MODES = frozenset(Delivery)

_LOCK = """
SELECT session_id, state, revision, next_position, outstanding, turn, round, attempt, config->>'mode' AS mode,
       due_at <= clock_timestamp() AS due, clock_timestamp() AS now
FROM sessions WHERE session_id = $1 AND lease_epoch = $2 AND next_position = $3
FOR NO KEY UPDATE"""

_PENDING = f"""
SELECT {MESSAGE_COLUMNS} FROM messages
WHERE session_id = $1 AND type = 'system' AND position IS NULL AND settled_at IS NULL
ORDER BY posted_revision"""

_IMMEDIATE_WAITS = """
SELECT EXISTS (
    SELECT FROM messages m
    WHERE m.session_id = s.session_id AND type = 'system' AND position IS NULL AND settled_at IS NULL
      AND delivery = 'immediate' AND (expire_time IS NULL OR expire_time > clock_timestamp()))
FROM sessions s WHERE session_id = $1 AND lease_epoch = $2"""

_DELIVER = """
UPDATE messages m
SET position = d.position, delivered_at = $2, delivered_revision = d.revision,
    turn = $6, round = $7, placement = $8, render_version = $9
FROM unnest($3::uuid[], $4::bigint[], $5::bigint[]) AS d (message_id, position, revision)
WHERE m.session_id = $1 AND m.message_id = d.message_id"""

_ADVANCE = """
UPDATE sessions
SET revision = $2, next_position = $3, outstanding = $4,
    turn = $5, turn_open = true, round = $6, attempt = $7,
    system_prompt = coalesce(system_prompt, $8), tool_specs = coalesce(tool_specs, $9)
WHERE session_id = $1"""

# A closed turn keeps its due time, the end of the cooldown; without turns of its own a session has none.
_RELEASE = """
UPDATE sessions
SET revision = $2, outstanding = $3, lease_owner = NULL, lease_epoch = lease_epoch + 1,
    due_at = CASE WHEN turn_open THEN clock_timestamp() WHEN config->>'mode' = 'autonomous' THEN due_at END
WHERE session_id = $1"""


@dataclass(frozen=True, slots=True)
class Frozen:
    """What the model is told at the start, kept from then on so that requests only grow at their end."""

    system_prompt: str
    tool_specs_json: str


@dataclass(frozen=True, slots=True)
class SafePoint:
    """Where the turn stands now, and what was delivered, in order."""

    place: Place
    delivered: tuple[Interrupt, ...]


@dataclass(slots=True)
class _Held:
    """A session's row under its holder's lock."""

    state: SessionState
    mode: SessionMode
    due: bool
    place: Place
    next_position: int
    ledger: Ledger


class SafePoints:
    """Every method returns None where the session may not go on: then it has been released. Raises LeaseLost,
    and Unavailable when nobody knows whether the write happened: the holder then forgets the session."""

    def __init__(self, database: Database, wakeups: Wakeups, render_version: int) -> None:
        self._database, self._wakeups, self._render_version = database, wakeups, render_version

    async def begin_turn(self, lease: Lease, next_position: int, frozen: Frozen) -> SafePoint | None:
        """Open a turn with its first delivery, where it is due or something is there to deliver."""
        async with self._held(lease, next_position) as (connection, held):
            point = None
            if held.state is SessionState.ACTIVE:
                waiting = await _due(connection, held, ALL_MODES)
                if waiting or (held.due and held.mode is SessionMode.AUTONOMOUS):
                    place = Place(held.place.turn + 1, 0, 1)
                    held.ledger.record(EventType.TURN_STARTED, data={"turn": place.turn})
                    point = await self._deliver(connection, held, waiting, place)
            await _conclude(connection, held, point, frozen)
        return point

    async def begin_voice_again(self, lease: Lease, next_position: int) -> SafePoint | None:
        """Deliver what is due at the start of an open turn whose inner voice has not spoken yet."""
        async with self._held(lease, next_position) as (connection, held):
            point = None
            if held.state is SessionState.ACTIVE:
                waiting = await _due(connection, held, ALL_MODES)
                place = replace(held.place, attempt=held.place.attempt + 1)
                point = await self._deliver(connection, held, waiting, place)
            await _conclude(connection, held, point)
        return point

    async def begin_round(self, lease: Lease, next_position: int, number: int) -> SafePoint | None:
        """Deliver what is due in the middle of a turn, and start a round or a new attempt at it."""
        async with self._held(lease, next_position) as (connection, held):
            point = None
            if held.state is SessionState.ACTIVE:
                waiting = await _due(connection, held, NEXT_ROUND_MODES)
                attempt = held.place.attempt + 1 if held.place.round == number else 1
                place = Place(held.place.turn, number, attempt)
                point = await self._deliver(connection, held, waiting, place)
                held.ledger.record(
                    EventType.ROUND_STARTED,
                    data={"turn": place.turn, "round": place.round, "attempt": place.attempt},
                )
            await _conclude(connection, held, point)
        return point

    async def immediate_waits(self, lease: Lease) -> bool:
        """Whether an interrupt waits that is due at once. Only looks: the delivery decides."""
        async with self._database.connection() as connection:
            row = await connection.fetchrow(_IMMEDIATE_WAITS, lease.session_id, lease.epoch)
        if row is None:
            raise LeaseLost
        return bool(row[0])

    @asynccontextmanager
    async def _held(self, lease: Lease, next_position: int) -> AsyncIterator[tuple[Hot, _Held]]:
        """A transaction that has the session's row, hinted after its commit."""
        async with self._database.transaction() as connection:
            yield connection, await _lock(connection, lease, next_position)
        self._wakeups.hint(lease.session_id)

    async def _deliver(
        self, connection: Hot, held: _Held, waiting: Sequence[Interrupt], place: Place
    ) -> SafePoint:
        """Give each its position: the row becomes part of the transcript."""
        delivered = tuple(
            replace(
                pending,
                delivered=held.ledger.record(EventType.INTERRUPT_DELIVERED, pending.interrupt_id),
                position=held.next_position + n,
                turn=place.turn,
                round=place.round,
                placement=Placement.SYSTEM,
                render_version=self._render_version,
            )
            for n, pending in enumerate(waiting)
        )
        held.next_position += len(delivered)
        if delivered:
            await connection.execute(
                _DELIVER,
                held.ledger.session_id,
                held.ledger.now,
                [row.interrupt_id for row in delivered],
                [row.position for row in delivered],
                [row.delivered.revision for row in delivered if row.delivered],
                place.turn,
                place.round,
                Placement.SYSTEM.value,
                self._render_version,
            )
        return SafePoint(place, delivered)


async def _lock(connection: Hot, lease: Lease, next_position: int) -> _Held:
    row = await connection.fetchrow(_LOCK, lease.session_id, lease.epoch, next_position)
    if row is None:
        raise LeaseLost
    return _Held(
        SessionState(row["state"]),
        SessionMode(row["mode"]),
        bool(row["due"]),
        Place(get(row, "turn", int), get(row, "round", int), get(row, "attempt", int)),
        next_position,
        opened(row),
    )


async def _due(connection: Hot, held: _Held, modes: frozenset[Delivery]) -> list[Interrupt]:
    """What waits and is due here, in the order of the deposits. The expired is settled on the way."""
    if not held.ledger.outstanding:
        return []
    due = []
    for row in await connection.fetch(_PENDING, held.ledger.session_id):
        pending = interrupt(row)
        if pending.expire_time and pending.expire_time <= held.ledger.now:
            held.ledger.expire(pending.interrupt_id)
        elif pending.delivery in modes:
            due.append(pending)
    return due


async def _conclude(
    connection: Hot, held: _Held, point: SafePoint | None, frozen: Frozen | None = None
) -> None:
    """Write what happened, and go on from the safe point, or release where there is none."""
    ledger = held.ledger
    await write(connection, [ledger])
    if point is None:
        await connection.execute(_RELEASE, ledger.session_id, ledger.revision, ledger.outstanding)
        return
    await connection.execute(
        _ADVANCE,
        ledger.session_id,
        ledger.revision,
        held.next_position,
        ledger.outstanding,
        point.place.turn,
        point.place.round,
        point.place.attempt,
        frozen and frozen.system_prompt,
        frozen and frozen.tool_specs_json,
    )
