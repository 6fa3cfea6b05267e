"""Safe points: where a session's holder reads what waits, and delivers it.

Each reads the session's row, with the holder's epoch and next position compared, and the messages in a second
statement, unless the holder has just done so; decides; and writes in one statement, which compares the
revision: where it is still the same, nothing has come between. Otherwise, and where one statement cannot
write it all, the same is done once more under the row's lock.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from agent_service.domain import (
    UNDECIDED,
    Delivery,
    EventType,
    Lease,
    Message,
    NewMessage,
    Place,
    Session,
    SessionMode,
    Terms,
)
from agent_service.errors import LeaseLost
from agent_service.store.database import Database, Hot
from agent_service.store.held import Admission, Held
from agent_service.store.ledger import RECORD, event_columns, write_rows
from agent_service.store.release import RELEASED, due
from agent_service.store.rows import terms_values
from agent_service.store.standing import STANDING_COLUMNS, WAITING_OF_MODES, Standing, standing
from agent_service.wakeups import Wakeups

NEXT_ROUND_MODES = frozenset({Delivery.NEXT_ROUND, Delivery.IMMEDIATE})
ALL_MODES = frozenset(Delivery)

_READ = f"""
SELECT {STANDING_COLUMNS} FROM sessions WHERE session_id = $1 AND lease_epoch = $2 AND next_position = $3"""
_LOCK = f"{_READ} FOR NO KEY UPDATE"

_IMMEDIATE_WAITS = """
SELECT EXISTS (
    SELECT FROM messages m
    WHERE m.session_id = s.session_id AND type = 'system' AND position IS NULL AND settled_at IS NULL
      AND posted_revision > $3
      AND delivery = 'immediate' AND (expire_time IS NULL OR expire_time > clock_timestamp()))
FROM sessions s WHERE session_id = $1 AND lease_epoch = $2"""

# What happened, what was delivered, and where the session stands then; nothing, if it is not as it was read.
_WRITE = f"""
WITH held AS (
    UPDATE sessions SET revision = $8, next_position = $9, outstanding = $10, {{more_sets}}
    WHERE session_id = $7 AND lease_epoch = $11 AND next_position = $12 AND revision = $13
    RETURNING session_id
), recorded AS (
    {RECORD}, held
), delivered AS (
    UPDATE messages m
    SET position = d.position, delivered_at = $14, delivered_revision = d.revision,
        turn = $15, round = $16, placement = $17, render_version = $18,
        shown_bytes = nullif(d.shown_bytes, 0), left_waiting = nullif(d.left_waiting, 0)
    FROM held, unnest($19::uuid[], $20::bigint[], $21::bigint[], $22::int[], $23::int[])
         AS d (message_id, position, revision, shown_bytes, left_waiting)
    WHERE m.session_id = $7 AND m.message_id = d.message_id
)
SELECT session_id FROM held"""

_GO_ON = "round = $24, attempt = $25, interrupted = $26"

_ADVANCE = _WRITE.format(more_sets=_GO_ON)

_OPEN_TURN = _WRITE.format(
    more_sets=f"""{_GO_ON}, turn = $27, turn_open = true, rounds_from = 0,
    turn_goal = $28, turn_config = $29, system_prompt = $30, tool_specs = $31, notes = $32,
    announced = $33, profile = $34, voice_profile = $35"""
)

_RELEASE = _WRITE.format(
    more_sets=f"""state = $24, state_reason = $25, {RELEASED},
    due_at = {due(open_turn="coalesce($26, clock_timestamp())")}"""
)


@dataclass(frozen=True, slots=True)
class SafePoint:
    """Where the turn stands now, the rows that were appended and delivered, and the session's revision: what
    was posted later, this safe point has not met. `interrupted` says that a request of this round was
    cancelled for an interrupt."""

    place: Place
    rows: tuple[Message, ...]
    revision: int
    interrupted: bool
    # Of a turn that was opened here.
    terms: Terms | None = None


@dataclass(frozen=True, slots=True)
class Wait:
    """A wait that has not ended: until when, and its response if an interrupt, or the deadline, ends it."""

    deadline: datetime
    interrupted: NewMessage
    over: NewMessage


@dataclass(frozen=True, slots=True)
class _Move:
    """A statement with its own values, and where the turn stands then; None where the session is released."""

    statement: str
    values: tuple[object, ...]
    point: SafePoint | None = None


class SafePoints:
    """Every method returns None where the session may not go on: then it has been released. Raises LeaseLost,
    and Unavailable when nobody knows whether the write happened: the holder then forgets the session."""

    def __init__(self, database: Database, wakeups: Wakeups, render_version: int) -> None:
        self._database, self._wakeups, self._render_version = database, wakeups, render_version

    async def begin_turn(
        self, lease: Lease, loaded: Standing, terms: Callable[[Session], Terms], admit: Admission
    ) -> SafePoint | None:
        """Open a turn with its first delivery, where it is due or something is there to deliver, on the terms
        that follow from the session as it is now. What the holder has loaded need not be read again."""

        def decide(held: Held) -> _Move:
            waiting = held.take_due() if held.active else []
            in_time = held.found.due and held.session.config.mode is SessionMode.AUTONOMOUS
            if not held.active or not (waiting or in_time) or held.stop_at_limit(new_turn=True):
                return _release(held)
            held.place, held.interrupted = Place(held.place.turn + 1, 0, 1), False
            held.ledger.record(EventType.TURN_STARTED, data={"turn": held.place.turn})
            opening = terms(held.session)
            held.placement = (opening.profile or UNDECIDED).placement
            held.deliver(waiting, admit)
            return _open_turn(held, opening)

        return await self._pass(lease, loaded.next_position, ALL_MODES, decide, loaded)

    async def begin_voice_again(self, lease: Lease, next_position: int, admit: Admission) -> SafePoint | None:
        """Deliver what is due at the start of an open turn whose inner voice has not spoken yet."""

        def decide(held: Held) -> _Move:
            if not held.active or held.stop_at_limit():
                return _release(held)
            held.place = replace(held.place, attempt=held.place.attempt + 1)
            held.deliver(held.take_due(), admit)
            return _advance(held)

        return await self._pass(lease, next_position, ALL_MODES, decide)

    async def begin_round(
        self, lease: Lease, next_position: int, number: int, admit: Admission
    ) -> SafePoint | None:
        """Deliver what is due in the middle of a turn, and start a round or a new attempt at it."""

        def decide(held: Held) -> _Move:
            again = held.place.round == number
            if not held.active or held.stop_at_limit(new_round=not again):
                return _release(held)
            attempt = held.place.attempt + 1 if again else 1
            held.place, held.interrupted = Place(held.place.turn, number, attempt), held.interrupted and again
            held.deliver(held.take_due(), admit)
            place = {"turn": held.place.turn, "round": number, "attempt": attempt}
            held.ledger.record(EventType.ROUND_STARTED, data=place)
            return _advance(held)

        return await self._pass(lease, next_position, NEXT_ROUND_MODES, decide)

    async def repair(
        self,
        lease: Lease,
        next_position: int,
        lost: Sequence[NewMessage],
        wait: Wait | None,
        admit: Admission,
    ) -> SafePoint | None:
        """Take up an open turn in the middle of its tool calls: those that are lost get the responses given.
        A wait ends with an interrupt, all that is pending delivered with it, or at its deadline, if no limit
        stops the session there; otherwise the session is parked until then."""

        def decide(held: Held) -> _Move:
            if not held.active:
                return _release(held)
            for response in lost:
                held.append(response)
            if wait:
                waiting = held.take_due()
                goes_on = not waiting and wait.deadline > held.ledger.now
                if goes_on or held.stop_at_limit(new_round=True):
                    return _release(held, wait.deadline)
                held.append(wait.interrupted if waiting else wait.over)
                held.deliver(waiting, admit)
            return _advance(held)

        return await self._pass(lease, next_position, ALL_MODES if wait else frozenset(), decide)

    async def immediate_waits(self, lease: Lease, after_revision: int) -> bool:
        """Whether an interrupt waits that is due at once and was posted after a revision. Only looks: the
        delivery decides."""
        async with self._database.connection() as connection:
            row = await connection.fetchrow(_IMMEDIATE_WAITS, lease.session_id, lease.epoch, after_revision)
        if row is None:
            raise LeaseLost
        return bool(row[0])

    async def _pass(
        self,
        lease: Lease,
        next_position: int,
        modes: frozenset[Delivery],
        decide: Callable[[Held], _Move],
        found: Standing | None = None,
    ) -> SafePoint | None:
        """Read, decide and write; what nobody has seen written is decided again. Hinted after the commit."""
        async with self._database.connection() as connection:
            if not (found and found.is_fresh):
                found = await _read(connection, _READ, lease, next_position, modes)
            held = Held(found, self._render_version)
            move = decide(held)
            written = not held.ledger.has_rows and await _write(connection, lease, next_position, held, move)
        if not written:
            async with self._database.transaction() as connection:
                found = await _read(connection, _LOCK, lease, next_position, modes)
                held = Held(found, self._render_version)
                move = decide(held)
                await write_rows(connection, [held.ledger])
                await _write(connection, lease, next_position, held, move)
        self._wakeups.hint(lease.session_id)
        # Who waits for it begins to read before the holder goes on to compute.
        await asyncio.sleep(0)
        return move.point


async def _read(
    connection: Hot, statement: str, lease: Lease, next_position: int, modes: frozenset[Delivery]
) -> Standing:
    """Where the session stands, and what waits of these modes."""
    read_at = time.monotonic()
    row = await connection.fetchrow(statement, lease.session_id, lease.epoch, next_position)
    if row is None:
        raise LeaseLost
    waits = row["outstanding"] and modes
    names = [mode.value for mode in modes]
    waiting = await connection.fetch(WAITING_OF_MODES, lease.session_id, names) if waits else ()
    return standing(row, waiting, read_at)


def _open_turn(held: Held, terms: Terms) -> _Move:
    stands = held.place.round, held.place.attempt, held.interrupted, held.place.turn
    return _Move(_OPEN_TURN, (*stands, *terms_values(terms)), _point(held, terms))


def _advance(held: Held) -> _Move:
    """Go on from here."""
    return _Move(_ADVANCE, (held.place.round, held.place.attempt, held.interrupted), _point(held))


def _point(held: Held, terms: Terms | None = None) -> SafePoint:
    return SafePoint(held.place, tuple(held.rows), held.ledger.revision, held.interrupted, terms)


def _release(held: Held, deadline: datetime | None = None) -> _Move:
    """Give the session back, parked where there is a deadline."""
    return _Move(_RELEASE, (held.session.state.value, held.session.state_reason, deadline))


async def _write(connection: Hot, lease: Lease, next_position: int, held: Held, move: _Move) -> bool:
    """Whether the session was still as it had been read."""
    ledger, delivered = held.ledger, held.delivered
    written = await connection.fetchval(
        move.statement,
        *event_columns([ledger]),
        lease.session_id,
        ledger.revision,
        held.next_position,
        ledger.outstanding,
        lease.epoch,
        next_position,
        held.session.revision,
        ledger.now,
        held.place.turn,
        held.place.round,
        held.placement.value,
        held.render_version,
        [row.interrupt_id for row in delivered],
        [row.position for row in delivered],
        [row.delivered.revision for row in delivered if row.delivered],
        [row.shown_bytes for row in delivered],
        [row.left_waiting for row in delivered],
        *move.values,
    )
    return written is not None
