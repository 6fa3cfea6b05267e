"""What was found out about models, for all replicas, and what of it an open turn runs with.

Of two replicas that find something out the last one counts.
"""

from collections.abc import Sequence

from agent_service.domain import UNDECIDED, Evidence, Finding, Lease, MessageId, ProfileKey, Terms
from agent_service.errors import LeaseLost
from agent_service.store.database import Database
from agent_service.store.rows import get, profile, profile_fields, terms_values

_FIND = """
SELECT profile, evidence FROM model_profiles
WHERE server = $1 AND model = $2 AND template = $3"""

_NEWEST = """
SELECT profile, evidence FROM model_profiles
WHERE server = $1 AND model = $2 ORDER BY found_at DESC LIMIT 1"""

_KEEP = """
INSERT INTO model_profiles (server, model, template, profile, evidence, found_at)
VALUES ($1, $2, $3, $4, $5, clock_timestamp())
ON CONFLICT (server, model, template)
DO UPDATE SET profile = excluded.profile, evidence = excluded.evidence, found_at = excluded.found_at"""

_PLACE_AGAIN = """
WITH held AS (
    UPDATE sessions
    SET turn_goal = $5, turn_config = $6, system_prompt = $7, tool_specs = $8, notes = $9, announced = $10,
        profile = $11, voice_profile = $12
    WHERE session_id = $1 AND lease_epoch = $2
    RETURNING session_id
), placed AS (
    UPDATE messages m SET placement = $4 FROM held
    WHERE m.session_id = held.session_id AND m.message_id = ANY ($3::uuid[])
)
SELECT FROM held"""


class ModelProfiles:
    """Raises Unavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, key: ProfileKey) -> Finding | None:
        return await self._read(_FIND, key.server, key.model, key.template)

    async def newest(self, server: str, model: str) -> Finding | None:
        """What was found out last, with whatever template."""
        return await self._read(_NEWEST, server, model)

    async def keep(self, key: ProfileKey, finding: Finding) -> None:
        fields, evidence = profile_fields(finding.profile), finding.evidence.value
        async with self._database.connection() as connection:
            await connection.execute(_KEEP, key.server, key.model, key.template, fields, evidence)

    async def place_again(self, lease: Lease, terms: Terms, interrupt_ids: Sequence[MessageId]) -> None:
        """Let the open turn run with these terms, and place these interrupts, which no model has seen, where
        those go that come. Raises LeaseLost, and Unavailable where nobody knows whether it happened."""
        placement = (terms.profile or UNDECIDED).placement.value
        values = lease.session_id, lease.epoch, interrupt_ids, placement, *terms_values(terms)
        async with self._database.connection() as connection:
            if await connection.fetchrow(_PLACE_AGAIN, *values) is None:
                raise LeaseLost

    async def _read(self, statement: str, *values: str) -> Finding | None:
        async with self._database.connection() as connection:
            row = await connection.fetchrow(statement, *values)
        found = profile(row, "profile") if row else None
        return Finding(found, Evidence(get(row, "evidence", str))) if row and found else None
