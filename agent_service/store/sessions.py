"""Sessions as clients see them: created, read, listed, changed, ended."""

import secrets
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import replace

from sqlalchemy import Select, func, insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from agent_service.domain import (
    EventType,
    InterruptState,
    MessageId,
    MessageType,
    NewMessage,
    NewSession,
    Place,
    Session,
    SessionId,
    SessionMode,
    SessionReading,
    SessionState,
    ToolResponse,
    TurnEnd,
    new_id,
)
from agent_service.errors import RequestIdReused, SessionEnded, SessionNotFound
from agent_service.store.database import Database, Hot
from agent_service.store.ledger import Ledger, opened, write
from agent_service.store.release import RELEASED
from agent_service.store.rows import (
    READING_COLUMNS,
    Row,
    config_fields,
    get,
    reading,
    session,
    session_fields,
)
from agent_service.store.tables import events, sessions
from agent_service.wakeups import Wakeups

_NOW = func.clock_timestamp()

_LOCK = f"""
SELECT {READING_COLUMNS}, next_position, clock_timestamp() AS now
FROM sessions WHERE session_id = $1 FOR NO KEY UPDATE"""

_OPEN_CALLS = """
SELECT c.call_id, c.tool_name, c.turn, c.round FROM messages c
WHERE c.session_id = $1 AND c.position >= $2 AND c.type = 'tool_call' AND NOT EXISTS (
    SELECT FROM messages r WHERE r.session_id = $1 AND r.position > c.position AND r.type = 'tool_response'
       AND r.call_id = c.call_id AND r.turn = c.turn AND r.round = c.round)
ORDER BY c.position"""

# The row after which a turn's calls may still be open: nothing but calls and responses comes after it.
_LAST_WORDS = """
SELECT position FROM messages
WHERE session_id = $1 AND position IS NOT NULL AND type NOT IN ('tool_call', 'tool_response')
ORDER BY position DESC LIMIT 1"""

_OUTSTANDING = """
SELECT message_id FROM messages
WHERE session_id = $1 AND type = 'system' AND settled_at IS NULL AND seen_at IS NULL
ORDER BY posted_revision"""

_END = f"""
UPDATE sessions
SET state = 'ended', state_reason = $2, revision = $3, next_position = $4, outstanding = 0, turn_open = false,
    due_at = NULL, not_before = NULL, attempts = 0, {RELEASED}
WHERE session_id = $1"""


_STOP = "UPDATE sessions SET state = $2, state_reason = $3, revision = $4 WHERE session_id = $1"

# Rounds of the turn and tokens are counted anew, and so is how long tokens are: the model's window may be
# another one by now. What was changed since an open turn began it goes on with: it may have stopped for that.
_RESUME = """
UPDATE sessions
SET state = $2, state_reason = $3, revision = $4, due_at = clock_timestamp(), not_before = NULL, attempts = 0,
    bytes_per_token = DEFAULT, rounds_from = round, tokens_from = input_tokens + output_tokens,
    turn_config = CASE WHEN NOT turn_open OR (turn_goal, turn_config) = (goal, config) THEN turn_config END
WHERE session_id = $1"""

# Between turns a new mode or cooldown counts at once, and never delays what is due. While a turn is open the
# time belongs to the turn, whose end sets it anew.
_UPDATE = """
UPDATE sessions
SET display_name = $2, goal = $3, labels = $4, config = $5, revision = $6,
    due_at = CASE
        WHEN turn_open OR (config->'mode', config->'cooldown_microseconds')
            = ($5::jsonb->'mode', $5::jsonb->'cooldown_microseconds') THEN due_at
        WHEN $5::jsonb->>'mode' = 'on_interrupt' THEN NULL
        WHEN config->>'mode' = 'on_interrupt' THEN clock_timestamp()
        ELSE LEAST(due_at, clock_timestamp()
            + ($5::jsonb->>'cooldown_microseconds')::bigint * interval '1 microsecond')
    END
WHERE session_id = $1"""


class Sessions:
    def __init__(self, database: Database, wakeups: Wakeups) -> None:
        self._database, self._wakeups = database, wakeups

    async def create(self, new: NewSession) -> SessionReading:
        """Create a session, which is due at once if it is autonomous. Raises RequestIdReused."""
        try:
            async with self._database.begin() as connection:
                created = await self._created_before(connection, new) or await self._insert(connection, new)
        except IntegrityError:
            # Somebody else used the same request id in this moment.
            async with self._database.begin() as connection:
                found = await self._created_before(connection, new)
                if not found:
                    raise
                created = found
        self._wakeups.hint(created.session.session_id)
        return created

    async def get(self, session_id: SessionId) -> SessionReading:
        """Raises SessionNotFound."""
        async with self._database.begin() as connection:
            found = (await connection.execute(_readings().where(sessions.c.session_id == session_id))).first()
        if found is None:
            raise SessionNotFound(session_id)
        return reading(found._mapping)

    async def page(
        self,
        limit: int,
        before: SessionId | None,
        states: Sequence[SessionState],
        labels: Mapping[str, str],
    ) -> list[SessionReading]:
        """The newest sessions with an id below `before`, in one of the states and with all of the labels."""
        query = _readings().order_by(sessions.c.session_id.desc()).limit(limit)
        if before:
            query = query.where(sessions.c.session_id < before)
        if states:
            query = query.where(sessions.c.state.in_([state.value for state in states]))
        if labels:
            query = query.where(sessions.c.labels.contains(dict(labels)))
        async with self._database.begin() as connection:
            return [reading(row._mapping) for row in await connection.execute(query)]

    async def end(self, session_id: SessionId) -> SessionReading:
        """End a session for good, and everything that is open in it. Raises SessionNotFound.

        The holder finds its epoch gone. The last event of the session is its change to ended.
        """
        async with self._database.transaction() as connection:
            row = await _locked(connection, session_id)
            if row["state"] != SessionState.ENDED.value:
                ledger = opened(row)
                position = await _answer_open_calls(connection, ledger, get(row, "next_position", int))
                if row["turn_open"]:
                    reason = TurnEnd.SESSION_ENDED.value
                    ledger.record(
                        EventType.TURN_ENDED, data={"turn": get(row, "turn", int), "reason": reason}
                    )
                for waiting in await connection.fetch(_OUTSTANDING, session_id):
                    interrupt_id = MessageId(waiting["message_id"])
                    ledger.settle(interrupt_id, InterruptState.CANCELLED, "the session ended")
                ended = replace(session(row), state=SessionState.ENDED, state_reason="on request")
                ledger.record(EventType.SESSION_CHANGED, data=session_fields(ended))
                await write(connection, [ledger])
                await connection.execute(_END, session_id, ended.state_reason, ledger.revision, position)
        self._wakeups.hint(session_id)
        return await self.get(session_id)

    async def pause(self, session_id: SessionId) -> SessionReading:
        """Stop the work at its next safe point, with everything kept. Repeating it changes nothing, and a
        failed session stays failed. Raises SessionNotFound, SessionEnded."""
        return await self._change(session_id, {SessionState.ACTIVE}, SessionState.PAUSED, _STOP)

    async def resume(self, session_id: SessionId) -> SessionReading:
        """Let a paused or failed session work on at once, with a fresh count of rounds and tokens.

        Raises SessionNotFound, SessionEnded.
        """
        stopped = {SessionState.PAUSED, SessionState.FAILED}
        return await self._change(session_id, stopped, SessionState.ACTIVE, _RESUME)

    async def update(self, session_id: SessionId, change: Callable[[Session], Session]) -> SessionReading:
        """Change name, goal, labels or config of a session, as a function of how it is found under its lock;
        where that changes nothing, nothing happens. Raises SessionNotFound, SessionEnded."""
        async with self._database.transaction() as connection:
            row = await _locked(connection, session_id)
            before = session(row)
            if before.state is SessionState.ENDED:
                raise SessionEnded(session_id)
            after = change(before)
            if after != before:
                ledger = opened(row)
                ledger.record(EventType.SESSION_CHANGED, data=session_fields(after))
                await write(connection, [ledger])
                await connection.execute(
                    _UPDATE,
                    session_id,
                    after.display_name,
                    after.goal,
                    dict(after.labels),
                    config_fields(after.config),
                    ledger.revision,
                )
        self._wakeups.hint(session_id)
        return await self.get(session_id)

    async def _change(
        self, session_id: SessionId, before: Set[SessionState], after: SessionState, statement: str
    ) -> SessionReading:
        """Bring a session from one of the states before to another; in any other it stays as it is."""
        async with self._database.transaction() as connection:
            row = await _locked(connection, session_id)
            then = session(row)
            if then.state is SessionState.ENDED:
                raise SessionEnded(session_id)
            if then.state in before:
                reason = "on request" if after is SessionState.PAUSED else ""
                changed = replace(then, state=after, state_reason=reason)
                ledger = opened(row)
                ledger.record(EventType.SESSION_CHANGED, data=session_fields(changed))
                await write(connection, [ledger])
                await connection.execute(statement, session_id, after.value, reason, ledger.revision)
        self._wakeups.hint(session_id)
        return await self.get(session_id)

    async def _created_before(self, connection: AsyncConnection, new: NewSession) -> SessionReading | None:
        if not new.request_id:
            return None
        query = _readings().add_columns(sessions.c.digest).where(sessions.c.request_id == new.request_id)
        found = (await connection.execute(query)).first()
        if found is None:
            return None
        if found._mapping["digest"] != new.digest:
            raise RequestIdReused(new.request_id)
        return reading(found._mapping)

    async def _insert(self, connection: AsyncConnection, new: NewSession) -> SessionReading:
        session_id = SessionId(new_id())
        autonomous = new.config.mode is SessionMode.AUTONOMOUS
        await connection.execute(
            insert(sessions).values(
                session_id=session_id,
                create_time=_NOW,
                request_id=new.request_id or None,
                digest=new.digest,
                display_name=new.display_name,
                goal=new.goal,
                state=SessionState.ACTIVE.value,
                config=config_fields(new.config),
                labels=dict(new.labels),
                frame_tag=secrets.token_hex(4),
                revision=1,
                due_at=_NOW if autonomous else None,
            )
        )
        row = (await connection.execute(_readings().where(sessions.c.session_id == session_id))).one()
        created = reading(row._mapping)
        await connection.execute(insert(events).values(**_created_event(created.session)))
        return created


async def _locked(connection: Hot, session_id: SessionId) -> Row:
    row = await connection.fetchrow(_LOCK, session_id)
    if row is None:
        raise SessionNotFound(session_id)
    return row


def _readings() -> Select[*tuple[object, ...]]:
    columns = [sessions.c[name] for name in READING_COLUMNS.split(", ")]
    return select(*columns, _NOW.label("read_at"))


def _created_event(created: Session) -> dict[str, object]:
    return {
        "session_id": created.session_id,
        "revision": created.revision,
        "create_time": created.create_time,
        "type": EventType.SESSION_CHANGED.value,
        "data": session_fields(created),
    }


async def _answer_open_calls(connection: Hot, ledger: Ledger, position: int) -> int:
    """Give every call without a response one; returns the next position."""
    last = await connection.fetchval(_LAST_WORDS, ledger.session_id)
    for call in await connection.fetch(_OPEN_CALLS, ledger.session_id, last or 0):
        response = ToolResponse(
            get(call, "call_id", str),
            get(call, "tool_name", str),
            "The session ended before the tool did.",
            is_error=True,
        )
        place = Place(get(call, "turn", int), get(call, "round", int), 1)
        ledger.append(NewMessage(MessageType.TOOL_RESPONSE, response), position, place)
        position += 1
    return position
