"""What a poll looks for it finds among 100,000 sleeping sessions by reading no more than among 1,000."""

import json
from uuid import UUID

from agent_service.domain import ReplicaId
from agent_service.store import interrupts, leases
from agent_service.store.database import Hot
from tests.support import Store

_SLEEPERS = """
INSERT INTO sessions (session_id, create_time, goal, state, config, labels, frame_tag, due_at)
SELECT gen_random_uuid(), now(), 'goal', 'active', '{"mode": "autonomous"}', '{}', 'tag',
       CASE WHEN n % 2 = 0 THEN now() + interval '1 hour' END
FROM generate_series(1, $1::int) n"""
_PENDING = """
INSERT INTO messages (session_id, message_id, type, posted_at, posted_revision, delivery, expire_time)
SELECT session_id, gen_random_uuid(), 'system', now(), 2, 'next_round', now() + interval '1 hour'
FROM sessions"""

ME = ReplicaId(UUID(int=1))
POLL = {
    "claim what is due": (leases._CLAIM_DUE, ME, 100, leases._FIRST),
    "claim one's own": (leases._CLAIM_OWN, ME, 100, [], [], None),
    "claim from the dead": (leases._CLAIM_FROM_DEAD, ME, 100),
    "claim suspects": (leases._CLAIM_SUSPECTS, ME, 100),
    "read what is held": (leases._STILL_HELD, ME),
    "read what others hold": (leases._OTHERS, ME),
    "find the exhausted": (leases._EXHAUSTED,),
    "find what has expired": (interrupts._LOCK_EXPIRED, 500),
}
# An index of so many more entries may be deeper, and each look at it goes through its height.
DEEPER_PAGES = 12


async def _pages_read(connection: Hot, statement: str, *values: object) -> int:
    explained = await connection.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", *values)
    plan = json.loads(explained)[0]["Plan"]
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


async def test_sleeping_sessions_cost_a_poll_nothing(store: Store) -> None:
    for _ in range(3):
        await store.leases.sign_off(await store.replica())

    async def measure(connection: Hot, sleepers: int) -> dict[str, int]:
        await connection.execute(_SLEEPERS, sleepers)
        await connection.execute(_PENDING)
        await connection.execute("ANALYZE")
        return {name: await _pages_read(connection, *asked) for name, asked in POLL.items()}

    async with store.database.connection() as connection:
        await connection.execute("SET plan_cache_mode = force_generic_plan")
        few = await measure(connection, 1_000)
        many = await measure(connection, 99_000)
    deeper = {name: many[name] - few[name] for name in POLL if many[name] > few[name] + DEEPER_PAGES}
    assert deeper == {}
