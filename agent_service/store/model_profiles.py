"""What was found out about models, for all replicas, and what of it an open turn runs with.

Of two replicas that find something out the last one counts.
"""

from collections.abc import Sequence

from agent_service.domain import UNDECIDED, Evidence, Finding, Lease, MessageId, ProfileKey, Terms
from agent_service.errors import LeaseLost
from agent_service.store.database import Database
from agent_service.store.rows import config_fields, get, profile, profile_fields

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
    UPDATE sessions SET turn_config = $7, profile = $3, voice_profile = $4
    WHERE session_id = $1 AND lease_epoch = $2
    RETURNING session_id
), placed AS (
    UPDATE messages m SET placement = $6 FROM held
    WHERE m.session_id = held.session_id AND m.message_id = ANY ($5::uuid[])
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
        """Let the open turn run with the models and the profiles of these terms, and place these interrupts,
        which no model has seen, where those go that come. Raises LeaseLost, and Unavailable where nobody
        knows whether it happened."""
        profiles = profile_fields(terms.profile), profile_fields(terms.voice_profile)
        placement = (terms.profile or UNDECIDED).placement.value
        turn_config = config_fields(terms.config)
        values = lease.session_id, lease.epoch, *profiles, interrupt_ids, placement, turn_config
        async with self._database.connection() as connection:
            if await connection.fetchrow(_PLACE_AGAIN, *values) is None:
                raise LeaseLost

    async def _read(self, statement: str, *values: str) -> Finding | None:
        async with self._database.connection() as connection:
            row = await connection.fetchrow(statement, *values)
        found = profile(row, "profile") if row else None
        return Finding(found, Evidence(get(row, "evidence", str))) if row and found else None
