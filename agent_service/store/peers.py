"""What an agent may know of other sessions: of those that share a label, key and value, with its own."""

from dataclasses import dataclass
from uuid import UUID

from agent_service.domain import SessionId, SessionState
from agent_service.store.database import Database
from agent_service.store.rows import get

# Of one name. More are as good as none.
MAX_NAMED = 10

_NAMED = f"""
SELECT peer.session_id, peer.state FROM sessions peer, sessions own
WHERE own.session_id = $1
  AND (peer.session_id = $2 OR peer.display_name = $3 AND peer.display_name <> '')
  AND EXISTS (SELECT FROM jsonb_each(peer.labels) p JOIN jsonb_each(own.labels) o USING (key, value))
ORDER BY peer.state = 'ended', peer.session_id DESC LIMIT {MAX_NAMED}"""

# Interrupts alone have a request id, by which an index finds them among the rows of a long transcript. Those
# that are pending belong to no turn.
_HOPS = """
SELECT coalesce(max(hops), 0) FROM messages m JOIN sessions USING (session_id, turn)
WHERE session_id = $1 AND m.request_id IS NOT NULL"""


@dataclass(frozen=True, slots=True)
class Peer:
    session_id: SessionId
    ended: bool


class Peers:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def named(self, own: SessionId, session_id: SessionId | None, display_name: str) -> list[Peer]:
        """The sessions with this id or this name, the newest first, but those that have ended last. A session
        is its own peer if it has a label; an empty name is none."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(_NAMED, own, session_id, display_name)
        return [
            Peer(SessionId(get(row, "session_id", UUID)), row["state"] == SessionState.ENDED.value)
            for row in rows
        ]

    async def hops(self, session_id: SessionId) -> int:
        """The most hops of the interrupts that were delivered in the session's newest turn."""
        async with self._database.connection() as connection:
            return int(await connection.fetchval(_HOPS, session_id))
