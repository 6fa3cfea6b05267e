"""How often a session was taken over, and who holds it, read and written behind the store's back."""

from agent_service.domain import ReplicaId, SessionId
from tests.support import Store


async def set_attempts(store: Store, session_id: SessionId, attempts: int) -> None:
    async with store.own_connection() as connection:
        await connection.execute(
            "UPDATE sessions SET attempts = $2 WHERE session_id = $1", session_id, attempts
        )


async def attempts_of(store: Store, session_id: SessionId) -> object:
    async with store.own_connection() as connection:
        return await connection.fetchval("SELECT attempts FROM sessions WHERE session_id = $1", session_id)


async def holder_of(store: Store, session_id: SessionId) -> ReplicaId:
    async with store.own_connection() as connection:
        held_by = await connection.fetchval(
            "SELECT lease_owner FROM sessions WHERE session_id = $1", session_id
        )
    return ReplicaId(held_by)
