"""Who works on what: replicas with a lease, and the sessions that they hold.

A session is held by writing the replica's name into it and raising its epoch, which every later write
compares.
"""

import time
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from agent_service.domain import EventType, Lease, ReplicaId, SessionId, SessionState
from agent_service.store.database import Database
from agent_service.store.ledger import Ledger, write
from agent_service.store.release import RELEASED, due
from agent_service.store.rows import SESSION_COLUMNS, TERMS_COLUMNS, Row, get, session, session_fields
from agent_service.store.servers import Own
from agent_service.store.standing import STANDING_COLUMNS

_REGISTER = """
INSERT INTO replicas (replica_id, address, lease_until)
VALUES ($1, $2, clock_timestamp() + $3 * interval '1 second')"""

# A lease that has run out stays so: the sessions may have been taken.
_RENEW = """
UPDATE replicas SET lease_until = clock_timestamp() + $2 * interval '1 second'
WHERE replica_id = $1 AND lease_until > clock_timestamp()
RETURNING replica_id"""

_SIGN_OFF = "UPDATE replicas SET lease_until = clock_timestamp() WHERE replica_id = $1"

_GIVE_BACK = f"""
UPDATE sessions SET {RELEASED}, due_at = {due(open_turn="clock_timestamp()")} WHERE lease_owner = $1"""

_TAKE_AT_MOST = "UPDATE replicas SET max_sessions = $2 WHERE replica_id = $1"

_OTHERS = """
SELECT replica_id, max_sessions, (SELECT count(*) FROM sessions WHERE lease_owner = r.replica_id) AS held
FROM replicas r WHERE lease_until > now() AND replica_id <> $1"""

# Not at once: a claim that hangs at its commit may still land.
_FORGET = """
DELETE FROM replicas r WHERE lease_until < clock_timestamp() - interval '1 hour'
    AND NOT EXISTS (SELECT FROM sessions WHERE lease_owner = r.replica_id)"""

# The most that one claim takes.
BATCH = 100
# Takeovers from dead workers, since the last completed round, at which a session has failed.
MAX_ATTEMPTS = 5
# So many takeovers make a session suspect of taking its worker with it. A replica runs those of one number of
# takeovers at a time, and ten times fewer of them at each number; at the last one it runs a single one, so
# that none fails for another's sake.
SUSPECT_ATTEMPTS = 2
SUSPECTS_AT_ONCE = f"(10 ^ ({MAX_ATTEMPTS} - 1 - attempts))::int"
# Of so many that are due the claim takes any, and the next claim of the next ones: where there is no room for
# all, none waits for ever.
CANDIDATES = 1000

# What is read of a session by whom takes it: with this, and its rows, a holder can begin.
CLAIMED_COLUMNS = f"""{STANDING_COLUMNS}, {TERMS_COLUMNS}, frame_tag, turn_open, context_tokens,
    bytes_per_token, lease_epoch"""

_TAKE = "UPDATE sessions s SET lease_owner = $1, lease_epoch = lease_epoch + 1"
# Nothing is taken by a replica whose own lease has run out.
_RETURNING = f"""
FROM due, replicas r WHERE s.session_id = due.id AND r.replica_id = $1 AND r.lease_until > now()
RETURNING {CLAIMED_COLUMNS}"""

_FREE = "lease_owner IS NULL AND state = 'active' AND (not_before IS NULL OR not_before <= now())"
_TRUSTED = f"{_FREE} AND attempts < {SUSPECT_ATTEMPTS}"

# Due is what waits or whose time has come, never before a back-off is over. Two indexes find candidates, and
# the lock makes sure of them: `outstanding` is read from the session's row, never from the messages. How long
# they wait the first index does not know: it is gone through from where the last claim came to.
_WAITS = f"{_TRUSTED} AND outstanding > 0"
_CLAIM_DUE = f"""
WITH beyond AS (
    SELECT session_id FROM sessions WHERE {_WAITS} AND session_id > $3 ORDER BY session_id LIMIT {CANDIDATES}
), candidates AS (
    SELECT session_id FROM beyond
    UNION
    (SELECT session_id FROM sessions WHERE {_WAITS} AND session_id <= $3 ORDER BY session_id
     LIMIT (SELECT {CANDIDATES} - count(*) FROM beyond))
    UNION
    (SELECT session_id FROM sessions WHERE {_TRUSTED} AND due_at <= now() ORDER BY due_at LIMIT {CANDIDATES})
), due AS (
    SELECT session_id AS id FROM sessions
    WHERE session_id IN (SELECT session_id FROM candidates)
      AND {_TRUSTED} AND (outstanding > 0 OR due_at <= now())
    ORDER BY random() LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED
)
{_TAKE}, not_before = NULL {_RETURNING},
    (SELECT session_id FROM beyond ORDER BY session_id DESC LIMIT 1) AS came_to"""

# Suspects that are due or whose holder is dead. This takeover counts.
_ATTEMPTS = "attempts + (lease_owner IS NOT NULL)::int"
_SUSPECT = f"""
attempts >= {SUSPECT_ATTEMPTS} - 1 AND {_ATTEMPTS} BETWEEN {SUSPECT_ATTEMPTS} AND {MAX_ATTEMPTS} - 1
AND state = 'active'
AND ({_FREE} AND (outstanding > 0 OR due_at <= now())
     OR lease_owner IN (SELECT replica_id FROM replicas WHERE lease_until <= now()))"""

_CLAIM_SUSPECTS = f"""
WITH running AS (
    SELECT count(*) AS number, max(attempts) AS attempts FROM sessions
    WHERE lease_owner = $1 AND attempts >= {SUSPECT_ATTEMPTS} AND state = 'active'
), next AS (
    SELECT number, coalesce(attempts, (
        SELECT {_ATTEMPTS} FROM sessions WHERE {_SUSPECT} ORDER BY random() LIMIT 1)) AS attempts
    FROM running
), due AS (
    SELECT session_id AS id, lease_owner IS NOT NULL AS from_dead FROM sessions
    WHERE {_SUSPECT} AND {_ATTEMPTS} = (SELECT attempts FROM next)
    ORDER BY random()
    LIMIT (SELECT greatest(0, least($2, {SUSPECTS_AT_ONCE} - number)) FROM next)
    FOR NO KEY UPDATE SKIP LOCKED
)
{_TAKE}, not_before = NULL, attempts = attempts + from_dead::int {_RETURNING}"""

# One dead replica at a time, a batch of each at most: the planner cannot know how few are dead, and would
# rather walk the table.
_CLAIM_FROM_DEAD = f"""
WITH due AS (
    SELECT orphan.session_id AS id FROM replicas r CROSS JOIN LATERAL (
        SELECT session_id FROM sessions
        WHERE lease_owner = r.replica_id AND state = 'active' AND attempts < {SUSPECT_ATTEMPTS} - 1
        LIMIT {BATCH} FOR NO KEY UPDATE SKIP LOCKED) orphan
    WHERE r.lease_until <= now() LIMIT $2
)
{_TAKE}, attempts = attempts + 1 {_RETURNING}"""

# Sessions that have been taken over so often that the next time is once too many.
_EXHAUSTED = f"""
SELECT {SESSION_COLUMNS}, outstanding, clock_timestamp() AS now
FROM sessions WHERE state = 'active' AND attempts >= {MAX_ATTEMPTS} - 1
    AND lease_owner = ANY (ARRAY (SELECT replica_id FROM replicas WHERE lease_until <= now()))
ORDER BY lease_owner LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED"""

_FAIL = f"""
UPDATE sessions
SET state = $2, state_reason = $3, revision = $4, {RELEASED}
WHERE session_id = $1"""

# Sessions that carry this replica's name, or its former one, though it does not run them: after a write whose
# outcome is unknown, or a lease that lapsed.
_CLAIM_OWN = f"""
WITH due AS (
    SELECT session_id AS id FROM sessions s
    WHERE lease_owner IN ($1, $5) AND state = 'active' AND NOT EXISTS (
        SELECT FROM unnest($3::uuid[], $4::bigint[]) AS running (session_id, epoch)
        WHERE running.session_id = s.session_id AND running.epoch = s.lease_epoch)
    LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED
)
{_TAKE} {_RETURNING}"""

_STILL_HELD = "SELECT session_id, lease_epoch FROM sessions WHERE lease_owner = $1"


# No session has it.
_FIRST = UUID(int=0)


@dataclass(frozen=True, slots=True)
class Claim:
    """A lease just taken, with the session's row as it was then: not yet read, for what is in a row that
    cannot be read is its own session's trouble."""

    lease: Lease
    row: Row
    # By the clock of `time.monotonic`.
    taken_at: float


@dataclass(frozen=True, slots=True)
class Load:
    """How many sessions a live replica holds, and the most that it takes."""

    replica: ReplicaId
    held: int
    max_sessions: int


class Leases:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._came_to = _FIRST

    async def claim_due(self, replica: ReplicaId, limit: int) -> list[Claim]:
        """Take sessions that nobody holds and that are due."""
        claims = await self._claim(_CLAIM_DUE, replica, limit, self._came_to)
        if claims:
            self._came_to = get(claims[0].row, "came_to", UUID, None) or _FIRST
        return claims

    async def claim_from_dead(self, replica: ReplicaId, limit: int) -> list[Claim]:
        """Take sessions whose holder's lease has run out."""
        return await self._claim(_CLAIM_FROM_DEAD, replica, limit)

    async def claim_suspects(self, replica: ReplicaId, limit: int) -> list[Claim]:
        """Take sessions whose workers died again and again, so few that they can be told apart."""
        return await self._claim(_CLAIM_SUSPECTS, replica, limit)

    async def claim_own(
        self, replica: ReplicaId, running: Collection[Lease], limit: int, former: ReplicaId | None = None
    ) -> list[Claim]:
        """Take again, under a new epoch, what carries this replica's name but is not run by it. It may have
        had another name, under which its lease has run out."""
        session_ids, epochs = [lease.session_id for lease in running], [lease.epoch for lease in running]
        return await self._claim(_CLAIM_OWN, replica, limit, session_ids, epochs, former)

    async def fail_exhausted(self) -> SessionId | None:
        """Give up, visibly, a session whose workers died again and again. Somebody may resume it."""
        async with self._database.transaction() as connection:
            row = await connection.fetchrow(_EXHAUSTED)
            if row is None:
                return None
            reason = f"{MAX_ATTEMPTS} workers died while they ran it"
            failed = replace(session(row), state=SessionState.FAILED, state_reason=reason)
            ledger = Ledger(
                failed.session_id, get(row, "now", datetime), failed.revision, get(row, "outstanding", int)
            )
            ledger.record(EventType.SESSION_CHANGED, data=session_fields(failed))
            await write(connection, [ledger])
            await connection.execute(
                _FAIL, failed.session_id, failed.state.value, failed.state_reason, ledger.revision
            )
        return failed.session_id

    async def held(self, replica: ReplicaId) -> set[Lease]:
        """The leases that this replica has according to the database."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(_STILL_HELD, replica)
        return {Lease(SessionId(row["session_id"]), row["lease_epoch"]) for row in rows}

    async def take_at_most(self, replica: ReplicaId, max_sessions: int) -> None:
        """Let other replicas hand over sessions to this one until it holds so many; 0: none from now on."""
        async with self._database.connection() as connection:
            await connection.execute(_TAKE_AT_MOST, replica, max_sessions)

    async def others(self, replica: ReplicaId) -> list[Load]:
        """The other live replicas."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(_OTHERS, replica)
        return [
            Load(
                ReplicaId(get(row, "replica_id", UUID)), get(row, "held", int), get(row, "max_sessions", int)
            )
            for row in rows
        ]

    async def give_back(self, replica: ReplicaId) -> None:
        """Release what the replica holds and does not run: no worker has died of it."""
        async with self._database.connection() as connection:
            await connection.execute(_GIVE_BACK, replica)

    async def sign_off(self, replica: ReplicaId) -> None:
        """End the replica's lease: what it still holds may be taken at once."""
        async with self._database.connection() as connection:
            await connection.execute(_SIGN_OFF, replica)

    async def _claim(self, statement: str, replica: ReplicaId, limit: int, *values: object) -> list[Claim]:
        async with self._database.connection() as connection:
            # From before they are asked for: the rows are no older.
            taken_at = time.monotonic()
            rows = await connection.fetch(statement, replica, min(limit, BATCH), *values)
        return [Claim(Lease(SessionId(row["session_id"]), row["lease_epoch"]), row, taken_at) for row in rows]


async def register(connection: Own, replica: ReplicaId, address: str, lease_seconds: float) -> None:
    """Begin a replica's lease, and forget replicas long gone. On a connection of the caller's own."""
    await connection.execute(_FORGET)
    await connection.execute(_REGISTER, replica, address, lease_seconds)


async def renew(connection: Own, replica: ReplicaId, lease_seconds: float) -> bool:
    """Lengthen the lease. False where it has run out: it cannot be had back."""
    return await connection.fetchval(_RENEW, replica, lease_seconds) is not None
