"""The room in the context of a session: what is learnt of it, and what is done where there is too little.

Every method compares the lease's epoch. It raises LeaseLost where the session is no longer the holder's, and
Unavailable where nobody knows whether it happened.
"""

from collections.abc import Sequence
from dataclasses import replace

from agent_service.domain import EventType, Interrupt, Lease, SessionState
from agent_service.errors import LeaseLost
from agent_service.store.database import Database
from agent_service.store.ledger import opened, write
from agent_service.store.release import RELEASED
from agent_service.store.rows import SESSION_COLUMNS, session, session_fields
from agent_service.wakeups import Wakeups

_LEARN = """
UPDATE sessions SET bytes_per_token = $3
WHERE session_id = $1 AND lease_epoch = $2
RETURNING session_id"""

_SHOW_LESS = """
WITH held AS (
    SELECT session_id FROM sessions WHERE session_id = $1 AND lease_epoch = $2 FOR NO KEY UPDATE
), shortened AS (
    UPDATE messages m SET shown_bytes = s.shown_bytes
    FROM held, unnest($3::uuid[], $4::int[]) AS s (message_id, shown_bytes)
    WHERE m.session_id = held.session_id AND m.message_id = s.message_id
)
SELECT FROM held"""

_LOCK = f"""
SELECT {SESSION_COLUMNS}, outstanding, clock_timestamp() AS now
FROM sessions WHERE session_id = $1 AND lease_epoch = $2
FOR NO KEY UPDATE"""

_GIVE_UP = f"""
UPDATE sessions SET state = $2, state_reason = $3, revision = $4, {RELEASED}
WHERE session_id = $1"""


class Room:
    def __init__(self, database: Database, wakeups: Wakeups) -> None:
        self._database, self._wakeups = database, wakeups

    async def learn(self, lease: Lease, bytes_per_token: float) -> None:
        """Keep how long the session's tokens are, for whoever holds it next."""
        await self._write(_LEARN, lease, bytes_per_token)

    async def show_less(self, lease: Lease, shortened: Sequence[Interrupt]) -> None:
        """Let these interrupts, which no model has seen, be shown from now on as they say."""
        ids = [interrupt.interrupt_id for interrupt in shortened]
        await self._write(_SHOW_LESS, lease, ids, [interrupt.shown_bytes for interrupt in shortened])

    async def give_up(self, lease: Lease, reason: str) -> None:
        """Release the session, failed until somebody resumes it, unless it was paused meanwhile."""
        async with self._database.transaction() as connection:
            row = await connection.fetchrow(_LOCK, lease.session_id, lease.epoch)
            if row is None:
                raise LeaseLost
            ledger, now = opened(row), session(row)
            if now.state is SessionState.ACTIVE:
                now = replace(now, state=SessionState.FAILED, state_reason=reason)
                ledger.record(EventType.SESSION_CHANGED, data=session_fields(now))
            await write(connection, [ledger])
            values = now.session_id, now.state.value, now.state_reason, ledger.revision
            await connection.execute(_GIVE_UP, *values)
        self._wakeups.hint(lease.session_id)

    async def _write(self, statement: str, lease: Lease, *values: object) -> None:
        async with self._database.connection() as connection:
            if await connection.fetchrow(statement, lease.session_id, lease.epoch, *values) is None:
                raise LeaseLost
