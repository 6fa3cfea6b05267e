"""Safe points: the transactions of a session's holder that read what waits and deliver it.

Each takes the session's row lock first, with the holder's epoch and next position compared, and reads the
messages in a second statement: one statement for both would read them as they were before the lock was had.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime

from agent_service.domain import (
    UNDECIDED,
    Delivery,
    EventType,
    Interrupt,
    Lease,
    Message,
    NewMessage,
    Place,
    Placement,
    Portion,
    Session,
    SessionMode,
    SessionState,
    Terms,
)
from agent_service.errors import LeaseLost
from agent_service.store.database import Database, Hot
from agent_service.store.ledger import RECORD, Ledger, event_columns, opened, write_rows
from agent_service.store.release import RELEASED, due
from agent_service.store.rows import (
    MESSAGE_COLUMNS,
    SESSION_COLUMNS,
    config_fields,
    get,
    interrupt,
    profile,
    profile_fields,
    session,
    session_fields,
)
from agent_service.wakeups import Wakeups

NEXT_ROUND_MODES = frozenset({Delivery.NEXT_ROUND, Delivery.IMMEDIATE})
ALL_MODES = frozenset(Delivery)

_LOCK = f"""
SELECT {SESSION_COLUMNS}, outstanding, round, attempt, interrupted, profile, round - rounds_from AS rounds,
       input_tokens + output_tokens - tokens_from AS tokens,
       due_at <= clock_timestamp() AS due, clock_timestamp() AS now
FROM sessions WHERE session_id = $1 AND lease_epoch = $2 AND next_position = $3
FOR NO KEY UPDATE"""

# Of a great many that wait no safe point reads all, but all are counted.
MAX_READ = 250
_PENDING = f"""
SELECT {MESSAGE_COLUMNS}, count(*) OVER () AS waiting FROM messages
WHERE session_id = $1 AND type = 'system' AND position IS NULL AND settled_at IS NULL
    AND delivery = ANY ($2::text[])
ORDER BY posted_revision LIMIT {MAX_READ}"""

_IMMEDIATE_WAITS = """
SELECT EXISTS (
    SELECT FROM messages m
    WHERE m.session_id = s.session_id AND type = 'system' AND position IS NULL AND settled_at IS NULL
      AND posted_revision > $3
      AND delivery = 'immediate' AND (expire_time IS NULL OR expire_time > clock_timestamp()))
FROM sessions s WHERE session_id = $1 AND lease_epoch = $2"""

_DELIVER = """
UPDATE messages m
SET position = d.position, delivered_at = $2, delivered_revision = d.revision,
    turn = $6, round = $7, placement = $8, render_version = $9,
    shown_bytes = nullif($10::int, 0), left_waiting = nullif(d.left_waiting, 0)
FROM unnest($3::uuid[], $4::bigint[], $5::bigint[], $11::int[])
     AS d (message_id, position, revision, left_waiting)
WHERE m.session_id = $1 AND m.message_id = d.message_id"""

# What happened, and where the session stands then, in one statement.
_WRITE = f"""
WITH recorded AS ({RECORD})
UPDATE sessions SET revision = $8, next_position = $9, outstanding = $10, {{more_sets}}
WHERE session_id = $7"""

_GO_ON = "round = $11, attempt = $12, interrupted = $13"

_ADVANCE = _WRITE.format(more_sets=_GO_ON)

_OPEN_TURN = _WRITE.format(
    more_sets=f"""{_GO_ON}, turn = $14, turn_open = true, rounds_from = 0,
    turn_goal = $15, turn_config = $16, system_prompt = $17, tool_specs = $18, notes = $19,
    announced = $20, profile = $21, voice_profile = $22"""
)

_RELEASE = _WRITE.format(
    more_sets=f"""state = $11, state_reason = $12, {RELEASED},
    due_at = {due(open_turn="coalesce($13, clock_timestamp())")}"""
)

# Says how many of those that are due, in their order, are delivered at once.
Admission = Callable[[Sequence[Interrupt]], Portion]


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


@dataclass(slots=True)
class _Held:
    """A session's row under its holder's lock, and what this transaction makes of it."""

    session: Session
    due: bool
    place: Place
    next_position: int
    interrupted: bool
    # Where interrupts go that are delivered here.
    placement: Placement
    # Of this turn, and since the session was last resumed.
    rounds: int
    tokens: int
    ledger: Ledger
    # Due, and not read.
    unread: int = 0
    rows: list[Message] = field(default_factory=list)

    @property
    def active(self) -> bool:
        return self.session.state is SessionState.ACTIVE

    def append(self, row: NewMessage) -> None:
        self.rows.append(self.ledger.append(row, self.next_position, self.place))
        self.next_position += 1

    def stop_at_limit(self, new_turn: bool = False, new_round: bool = False) -> bool:
        """Pause the session if it has reached a limit of its present configuration."""
        config = self.session.config
        if new_turn and 0 < config.max_turns <= self.place.turn:
            reached = f"max_turns, {config.max_turns}"
        elif 0 < config.token_budget <= self.tokens:
            reached = f"token_budget, {config.token_budget}"
        elif new_round and 0 < config.max_rounds_per_turn <= self.rounds:
            reached = f"max_rounds_per_turn, {config.max_rounds_per_turn}"
        else:
            return False
        self.session = replace(
            self.session, state=SessionState.PAUSED, state_reason=f"limit reached: {reached}"
        )
        self.ledger.record(EventType.SESSION_CHANGED, data=session_fields(self.session))
        return True


class SafePoints:
    """Every method returns None where the session may not go on: then it has been released. Raises LeaseLost,
    and Unavailable when nobody knows whether the write happened: the holder then forgets the session."""

    def __init__(self, database: Database, wakeups: Wakeups, render_version: int) -> None:
        self._database, self._wakeups, self._render_version = database, wakeups, render_version

    async def begin_turn(
        self, lease: Lease, next_position: int, terms: Callable[[Session], Terms], admit: Admission
    ) -> SafePoint | None:
        """Open a turn with its first delivery, where it is due or something is there to deliver, on the terms
        that follow from the session as it is now."""
        async with self._held(lease, next_position) as (connection, held):
            waiting = await _due(connection, held, ALL_MODES) if held.active else []
            in_time = held.due and held.session.config.mode is SessionMode.AUTONOMOUS
            if not held.active or not (waiting or in_time) or held.stop_at_limit(new_turn=True):
                await _release(connection, held)
                return None
            held.place, held.interrupted = Place(held.place.turn + 1, 0, 1), False
            held.ledger.record(EventType.TURN_STARTED, data={"turn": held.place.turn})
            opening = terms(held.session)
            held.placement = (opening.profile or UNDECIDED).placement
            await self._deliver(connection, held, waiting, admit)
            return await _open_turn(connection, held, opening)

    async def begin_voice_again(self, lease: Lease, next_position: int, admit: Admission) -> SafePoint | None:
        """Deliver what is due at the start of an open turn whose inner voice has not spoken yet."""
        async with self._held(lease, next_position) as (connection, held):
            if not held.active or held.stop_at_limit():
                await _release(connection, held)
                return None
            held.place = replace(held.place, attempt=held.place.attempt + 1)
            await self._deliver(connection, held, await _due(connection, held, ALL_MODES), admit)
            return await _advance(connection, held)

    async def begin_round(
        self, lease: Lease, next_position: int, number: int, admit: Admission
    ) -> SafePoint | None:
        """Deliver what is due in the middle of a turn, and start a round or a new attempt at it."""
        async with self._held(lease, next_position) as (connection, held):
            again = held.place.round == number
            if not held.active or held.stop_at_limit(new_round=not again):
                await _release(connection, held)
                return None
            attempt = held.place.attempt + 1 if again else 1
            held.place, held.interrupted = Place(held.place.turn, number, attempt), held.interrupted and again
            await self._deliver(connection, held, await _due(connection, held, NEXT_ROUND_MODES), admit)
            place = {"turn": held.place.turn, "round": number, "attempt": attempt}
            held.ledger.record(EventType.ROUND_STARTED, data=place)
            return await _advance(connection, held)

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
        async with self._held(lease, next_position) as (connection, held):
            if not held.active:
                await _release(connection, held)
                return None
            for response in lost:
                held.append(response)
            if wait:
                waiting = await _due(connection, held, ALL_MODES)
                goes_on = not waiting and wait.deadline > held.ledger.now
                if goes_on or held.stop_at_limit(new_round=True):
                    await _release(connection, held, wait.deadline)
                    return None
                held.append(wait.interrupted if waiting else wait.over)
                await self._deliver(connection, held, waiting, admit)
            return await _advance(connection, held)

    async def immediate_waits(self, lease: Lease, after_revision: int) -> bool:
        """Whether an interrupt waits that is due at once and was posted after a revision. Only looks: the
        delivery decides."""
        async with self._database.connection() as connection:
            row = await connection.fetchrow(_IMMEDIATE_WAITS, lease.session_id, lease.epoch, after_revision)
        if row is None:
            raise LeaseLost
        return bool(row[0])

    @asynccontextmanager
    async def _held(self, lease: Lease, next_position: int) -> AsyncIterator[tuple[Hot, _Held]]:
        """A transaction that has the session's row, hinted after its commit."""
        async with self._database.transaction() as connection:
            row = await connection.fetchrow(_LOCK, lease.session_id, lease.epoch, next_position)
            if row is None:
                raise LeaseLost
            yield (
                connection,
                _Held(
                    session(row),
                    bool(row["due"]),
                    Place(get(row, "turn", int), get(row, "round", int), get(row, "attempt", int)),
                    next_position,
                    get(row, "interrupted", bool),
                    (profile(row, "profile") or UNDECIDED).placement,
                    get(row, "rounds", int),
                    get(row, "tokens", int),
                    opened(row),
                ),
            )
        self._wakeups.hint(lease.session_id)

    async def _deliver(
        self, connection: Hot, held: _Held, waiting: Sequence[Interrupt], admit: Admission
    ) -> None:
        """Give as many as are admitted their positions: the rows become part of the transcript."""
        if not waiting:
            return
        portion = admit(waiting)
        left = len(waiting) - portion.count + held.unread
        delivered = [
            replace(
                pending,
                delivered=held.ledger.record(EventType.INTERRUPT_DELIVERED, pending.interrupt_id),
                position=held.next_position + n,
                turn=held.place.turn,
                round=held.place.round,
                placement=held.placement,
                render_version=self._render_version,
                shown_bytes=portion.shown_bytes,
                # The last one tells of the others.
                left_waiting=left if n == portion.count - 1 else 0,
            )
            for n, pending in enumerate(waiting[: portion.count])
        ]
        if not delivered:
            return
        held.next_position += len(delivered)
        held.rows.extend(Message.of(row) for row in delivered)
        await connection.execute(
            _DELIVER,
            held.ledger.session_id,
            held.ledger.now,
            [row.interrupt_id for row in delivered],
            [row.position for row in delivered],
            [row.delivered.revision for row in delivered if row.delivered],
            held.place.turn,
            held.place.round,
            held.placement.value,
            self._render_version,
            portion.shown_bytes,
            [row.left_waiting for row in delivered],
        )


async def _due(connection: Hot, held: _Held, modes: frozenset[Delivery]) -> list[Interrupt]:
    """What waits and is due here, in the order of the deposits. The expired is settled on the way."""
    if not held.ledger.outstanding:
        return []
    rows = await connection.fetch(_PENDING, held.ledger.session_id, [mode.value for mode in modes])
    held.unread = get(rows[0], "waiting", int) - len(rows) if rows else 0
    found = []
    for row in rows:
        pending = interrupt(row)
        if pending.expire_time and pending.expire_time <= held.ledger.now:
            held.ledger.expire(pending.interrupt_id)
        else:
            found.append(pending)
    return found


async def _open_turn(connection: Hot, held: _Held, terms: Terms) -> SafePoint:
    await _write(
        connection,
        held,
        _OPEN_TURN,
        held.place.round,
        held.place.attempt,
        held.interrupted,
        held.place.turn,
        terms.goal,
        config_fields(terms.config),
        terms.system_prompt,
        terms.tool_specs_json,
        terms.notes,
        terms.announced.value if terms.announced else None,
        profile_fields(terms.profile),
        profile_fields(terms.voice_profile),
    )
    return _point(held, terms)


async def _advance(connection: Hot, held: _Held) -> SafePoint:
    """Write what happened, and go on from here."""
    await _write(connection, held, _ADVANCE, held.place.round, held.place.attempt, held.interrupted)
    return _point(held)


def _point(held: _Held, terms: Terms | None = None) -> SafePoint:
    return SafePoint(held.place, tuple(held.rows), held.ledger.revision, held.interrupted, terms)


async def _release(connection: Hot, held: _Held, deadline: datetime | None = None) -> None:
    """Write what happened, and give the session back, parked where there is a deadline."""
    state, reason = held.session.state.value, held.session.state_reason
    await _write(connection, held, _RELEASE, state, reason, deadline)


async def _write(connection: Hot, held: _Held, statement: str, *more_values: object) -> None:
    ledger = held.ledger
    await write_rows(connection, [ledger])
    await connection.execute(
        statement,
        *event_columns([ledger]),
        ledger.session_id,
        ledger.revision,
        held.next_position,
        ledger.outstanding,
        *more_values,
    )
