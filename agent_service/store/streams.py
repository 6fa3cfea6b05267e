"""What watchers read: the facts about a session in their order, its transcript, and single interrupts."""

from agent_service.domain import Event, Interrupt, Message, MessageId, SessionId
from agent_service.errors import InterruptNotFound, SessionNotFound
from agent_service.store.database import Database
from agent_service.store.rows import MESSAGE_COLUMNS, event, get, interrupt, message

_NEWEST = "SELECT revision FROM sessions WHERE session_id = $1"

# One statement is one snapshot: it holds everything up to the last revision in it.
_PAGE = f"""
SELECT * FROM (
    SELECT *, coalesce(sum(octet_length(text) + octet_length(reasoning)) OVER (
        ORDER BY event_revision ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS bytes_before
    FROM (
        SELECT e.session_id AS event_session_id, e.revision AS event_revision, e.create_time AS event_time,
               e.type AS event_type, e.data AS event_data, m.*
        FROM events e LEFT JOIN LATERAL (
            SELECT {MESSAGE_COLUMNS} FROM messages
            WHERE session_id = e.session_id AND message_id = e.message_id) m ON true
        WHERE e.session_id = $1 AND e.revision > $2 ORDER BY e.revision LIMIT $3) next
) sized
WHERE bytes_before <= $4 ORDER BY event_revision"""

# So many rows at most, and of those that are too long together no more than tells that there are more.
_MESSAGES = f"""
SELECT {MESSAGE_COLUMNS} FROM (
    SELECT *, coalesce(sum(octet_length(text) + octet_length(reasoning)) OVER (
        ORDER BY position ROWS BETWEEN UNBOUNDED PRECEDING AND 2 PRECEDING), 0) AS bytes_before
    FROM (SELECT * FROM messages WHERE session_id = $1 AND position > $2 ORDER BY position LIMIT $3) next
) sized
WHERE bytes_before <= $4 ORDER BY position"""

_INTERRUPT = f"SELECT {MESSAGE_COLUMNS} FROM messages WHERE message_id = $1 AND type = 'system'"

# A lease that has run out tells nothing: the session may be anybody's by now.
_HOLDER = """
SELECT address FROM replicas JOIN sessions ON lease_owner = replica_id
WHERE session_id = $1 AND lease_until > clock_timestamp()"""


class Streams:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def newest_revision(self, session_id: SessionId) -> int:
        """Raises SessionNotFound."""
        async with self._database.connection() as connection:
            row = await connection.fetchrow(_NEWEST, session_id)
        if row is None:
            raise SessionNotFound(session_id)
        return get(row, "revision", int)

    async def holder_address(self, session_id: SessionId) -> str | None:
        """Where the replica that runs a session takes calls of others; None where none runs it."""
        async with self._database.connection() as connection:
            row = await connection.fetchrow(_HOLDER, session_id)
        return get(row, "address", str) if row else None

    async def page(
        self, session_id: SessionId, after_revision: int, limit: int, max_bytes: int = 2**31
    ) -> list[Event]:
        """The next events after a revision, each with its row as it was then. The last of them is at most the
        first with which the rows are longer together than so many bytes."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(_PAGE, session_id, after_revision, limit, max_bytes)
        return [event(row) for row in rows]

    async def messages(
        self, session_id: SessionId, after_position: int, limit: int, max_bytes: int
    ) -> list[Message]:
        """The next rows of the transcript, covered ones too: all of them, or one more than have so many bytes
        together. Raises SessionNotFound."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(_MESSAGES, session_id, after_position, limit, max_bytes)
            if not rows and await connection.fetchrow(_NEWEST, session_id) is None:
                raise SessionNotFound(session_id)
        return [message(row) for row in rows]

    async def interrupt(self, interrupt_id: MessageId) -> Interrupt:
        """Raises InterruptNotFound."""
        async with self._database.connection() as connection:
            row = await connection.fetchrow(_INTERRUPT, interrupt_id)
        if row is None:
            raise InterruptNotFound(interrupt_id)
        return interrupt(row)
