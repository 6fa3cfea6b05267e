"""Interrupts after their deposit: listed, cancelled, expired.

Who settles takes the session's row first and reads the interrupt in a second statement: it may have been
delivered while the row was waited for.
"""

from collections.abc import Sequence
from dataclasses import replace

from agent_service.domain import Interrupt, InterruptState, MessageId, SessionId
from agent_service.errors import InterruptNotFound, InterruptNotPending, SessionNotFound
from agent_service.store.database import Database
from agent_service.store.ledger import close, opened
from agent_service.store.rows import MESSAGE_COLUMNS, interrupt
from agent_service.wakeups import Wakeups

_SESSION = "SELECT FROM sessions WHERE session_id = $1"

# Interrupts alone have a request id, by which an index finds them among the rows of a long transcript.
_PAGE = f"""
SELECT {MESSAGE_COLUMNS} FROM messages
WHERE session_id = $1 AND request_id IS NOT NULL AND posted_revision > $2
  AND CASE WHEN settled_at IS NOT NULL THEN settled_as WHEN seen_at IS NOT NULL THEN 'seen'
           WHEN position IS NOT NULL THEN 'delivered' ELSE 'pending' END = ANY ($4::text[])
ORDER BY posted_revision LIMIT $3"""

_PENDING = "type = 'system' AND position IS NULL AND settled_at IS NULL"

_LEDGER = "SELECT session_id, revision, outstanding, clock_timestamp() AS now FROM sessions"

# The session of an interrupt never changes.
_LOCK = f"""
{_LEDGER} WHERE session_id = (SELECT session_id FROM messages WHERE message_id = $1 AND type = 'system')
FOR NO KEY UPDATE"""

_READ = f"SELECT {MESSAGE_COLUMNS} FROM messages WHERE session_id = $1 AND message_id = $2"

# Both ask for what had expired when their transaction began. A session that somebody else has at work waits
# for the next sweep.
_LOCK_EXPIRED = f"""
{_LEDGER} WHERE session_id IN (
    SELECT session_id FROM messages WHERE {_PENDING} AND expire_time <= now() ORDER BY expire_time LIMIT $1)
ORDER BY session_id FOR NO KEY UPDATE SKIP LOCKED"""

_EXPIRED = f"""
SELECT session_id, message_id FROM messages
WHERE session_id = ANY ($1::uuid[]) AND {_PENDING} AND expire_time <= now()
ORDER BY expire_time LIMIT $2"""


class Interrupts:
    def __init__(self, database: Database, wakeups: Wakeups) -> None:
        self._database, self._wakeups = database, wakeups

    async def page(
        self, session_id: SessionId, after_revision: int, limit: int, states: Sequence[InterruptState]
    ) -> list[Interrupt]:
        """The next interrupts deposited after a revision, in one of the states; none means all.

        Raises SessionNotFound.
        """
        kept = [state.value for state in states or InterruptState]
        async with self._database.connection() as connection:
            rows = await connection.fetch(_PAGE, session_id, after_revision, limit, kept)
            if not rows and await connection.fetchrow(_SESSION, session_id) is None:
                raise SessionNotFound(session_id)
        return [interrupt(row) for row in rows]

    async def cancel(self, interrupt_id: MessageId) -> Interrupt:
        """Withdraw a pending interrupt. One that is cancelled already stays as it is.

        Raises InterruptNotFound, InterruptNotPending.
        """
        async with self._database.transaction() as connection:
            row = await connection.fetchrow(_LOCK, interrupt_id)
            if row is None:
                raise InterruptNotFound(interrupt_id)
            ledger = opened(row)
            read = await connection.fetchrow(_READ, ledger.session_id, interrupt_id)
            assert read, "an interrupt stays in its session"
            found = interrupt(read)
            if found.state is InterruptState.CANCELLED:
                return found
            if found.state is not InterruptState.PENDING:
                raise InterruptNotPending(interrupt_id)
            settlement = ledger.settle(interrupt_id, InterruptState.CANCELLED, "on request")
            await close(connection, [ledger])
        self._wakeups.hint(ledger.session_id)
        return replace(found, settled=settlement)

    async def expire(self, limit: int) -> None:
        """Settle so much of what is pending past its expire time, in sessions that may not work too."""
        async with self._database.transaction() as connection:
            rows = await connection.fetch(_LOCK_EXPIRED, limit)
            if not rows:
                return
            ledgers = {ledger.session_id: ledger for ledger in map(opened, rows)}
            for row in await connection.fetch(_EXPIRED, list(ledgers), limit):
                ledgers[row["session_id"]].expire(row["message_id"])
            changed = [ledger for ledger in ledgers.values() if ledger.events]
            await close(connection, changed)
        for ledger in changed:
            self._wakeups.hint(ledger.session_id)
