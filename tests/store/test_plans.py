"""The hot statements use their indexes, at 100,000 sessions and 10,000 rows in one of them, and in a young
database, whose plans live on while it grows."""

import json
from collections.abc import Iterator
from uuid import UUID

import pytest

from agent_service.store import (
    deposits,
    interrupts,
    leases,
    ledger,
    peers,
    safe_points,
    sessions,
    standing,
    streams,
    transcript,
)
from agent_service.store.database import Database, Hot

BIG = UUID(int=1)

_FILL = f"""
INSERT INTO sessions (session_id, create_time, goal, state, config, labels, frame_tag, due_at, outstanding,
                      lease_owner)
SELECT lpad(to_hex(n), 32, '0')::uuid, now(), 'goal', 'active', '{{"mode": "autonomous"}}', '{{}}', 'tag',
       now() + interval '1 hour', CASE WHEN n % 1000 = 0 THEN 1 ELSE 0 END,
       CASE WHEN n % 3 = 0 THEN lpad(to_hex(n % 50 + 1), 32, '0')::uuid END
FROM generate_series(1, 100000) n;
INSERT INTO replicas SELECT lpad(to_hex(n), 32, '0')::uuid, 'a:1', now() + (n - 3) * interval '1 minute'
FROM generate_series(1, 50) n;
INSERT INTO messages (session_id, message_id, type, position, posted_at, posted_revision, source, request_id,
                      delivery, seen_at)
SELECT '{BIG}', gen_random_uuid(), CASE WHEN n % 10 = 0 THEN 'system' ELSE 'assistant' END,
       n, now(), n, 'operator', CASE WHEN n % 10 = 0 THEN n::text END, 'next_round', now()
FROM generate_series(1, 10000) n;
INSERT INTO messages (session_id, message_id, type, posted_at, posted_revision, source, request_id, delivery)
SELECT lpad(to_hex(n), 32, '0')::uuid, gen_random_uuid(), 'system', now(), 2, 'operator', 'r', 'next_round'
FROM generate_series(2, 20000) n;
INSERT INTO messages (session_id, message_id, type, posted_at, posted_revision, source, request_id, delivery,
                      expire_time)
SELECT lpad(to_hex(n), 32, '0')::uuid, gen_random_uuid(), 'system', now(), 3, 'operator', 'e', 'next_round',
       now() + (n - 10000) * interval '1 second'
FROM generate_series(2, 20000) n;
INSERT INTO events (session_id, revision, create_time, type, message_id)
SELECT session_id, posted_revision, posted_at, 'message_appended', message_id FROM messages;
ANALYZE"""

STATEMENTS = {
    "deposit: append one": deposits._APPEND_ONE,
    "deposit: append all": deposits._APPEND_ALL,
    "deposit: lock": deposits._LOCK,
    "deposit: look for duplicates": deposits._KNOWN,
    "deposit: read what is pending": deposits._PENDING,
    "deposit: close": ledger._CLOSE,
    "settle": ledger._SETTLE,
    "claim what is due": leases._CLAIM_DUE,
    "claim from the dead": leases._CLAIM_FROM_DEAD,
    "claim suspects": leases._CLAIM_SUSPECTS,
    "claim one's own": leases._CLAIM_OWN,
    "read what is held": leases._STILL_HELD,
    "read what others hold": leases._OTHERS,
    "give back": leases._GIVE_BACK,
    "find the exhausted": leases._EXHAUSTED,
    "safe point: read": safe_points._READ,
    "safe point: lock": safe_points._LOCK,
    "safe point: read what is pending": standing.WAITING_OF_MODES,
    "safe point: open a turn": safe_points._OPEN_TURN,
    "safe point: advance": safe_points._ADVANCE,
    "safe point: release": safe_points._RELEASE,
    "load the rows": transcript._LOAD_ROWS,
    "append": transcript._APPEND_ROWS,
    "append the answer": transcript._APPEND_ANSWER,
    "see": transcript._SEE,
    "start tools": transcript._START_TOOLS,
    "fail a round": transcript._FAIL_ROUND,
    "fail a request": transcript._FAIL_REQUEST,
    "compact": transcript._COMPACT,
    "find the handled": transcript._HANDLED,
    "release": transcript._RELEASE,
    "stream a page": streams._PAGE,
    "read an interrupt": streams._INTERRUPT,
    "list messages": streams._MESSAGES,
    "list interrupts": interrupts._PAGE,
    "find a session": interrupts._SESSION,
    "cancel: lock": interrupts._LOCK,
    "cancel: read": interrupts._READ,
    "sweep: lock": interrupts._LOCK_EXPIRED,
    "sweep: read what has expired": interrupts._EXPIRED,
    "find the last words": sessions._LAST_WORDS,
    "find the outstanding": sessions._OUTSTANDING,
    "find a peer": peers._NAMED,
    "count the hops": peers._HOPS,
}


def _nodes(plan: dict[str, object]) -> Iterator[dict[str, object]]:
    yield plan
    children = plan.get("Plans", [])
    assert isinstance(children, list)
    for child in children:
        yield from _nodes(child)


# The partial indexes, each with the statement that it is for.
INDEXES = {
    "claim what is due": {"sessions_due", "sessions_waiting"},
    "claim from the dead": {"sessions_held"},
    "claim one's own": {"sessions_held"},
    "read what is held": {"sessions_held"},
    "read what others hold": {"sessions_held"},
    "give back": {"sessions_held"},
    "safe point: read what is pending": {"messages_pending"},
    "load the rows": {"messages_position", "messages_summaries", "messages_pending"},
    "deposit: look for duplicates": {"messages_request_id"},
    "read an interrupt": {"messages_interrupt_id"},
    "list messages": {"messages_position"},
    "find the handled": {"messages_position"},
    "claim suspects": {"sessions_taken_over"},
    "list interrupts": {"messages_request_id"},
    "cancel: lock": {"messages_interrupt_id"},
    "sweep: lock": {"messages_expiring"},
    "find a peer": {"sessions_display_name"},
    "count the hops": {"messages_request_id"},
}


async def _generic_plan(connection: Hot, statement: str) -> dict[str, object]:
    """The plan for any values, which a prepared statement ends up with."""
    count = len((await connection.prepare(statement)).get_parameters())
    await connection.execute(f"PREPARE explained AS {statement}")
    values = f"({', '.join(['NULL'] * count)})" if count else ""
    explained = await connection.fetchval(f"EXPLAIN (FORMAT JSON) EXECUTE explained{values}")
    await connection.execute("DEALLOCATE explained")
    plan = json.loads(explained)[0]["Plan"]
    assert isinstance(plan, dict)
    return plan


@pytest.mark.parametrize("fill", [_FILL, "SELECT"], ids=["full", "young"])
async def test_the_hot_statements_use_their_indexes(database: Database, fill: str) -> None:
    async with database.connection() as connection:
        await connection.execute(fill)
        for name, statement in STATEMENTS.items():
            nodes = list(_nodes(await _generic_plan(connection, statement)))
            walked = [node["Relation Name"] for node in nodes if node["Node Type"] == "Seq Scan"]
            # There are as many replicas as there are processes: reading them all is right.
            assert set(walked) <= {"replicas"}, f"{name} walks {walked}"
            used = {node["Index Name"] for node in nodes if "Index Name" in node}
            assert used >= INDEXES.get(name, set()), f"{name} uses only {used}"
            assert used, f"{name} uses no index"


# All but the last 50 rows are covered by a summary. The table is large enough for parallel plans.
_COVERED = f"""
INSERT INTO messages (session_id, message_id, type, position, covers_through_position, text, posted_at,
                      posted_revision)
SELECT '{BIG}', gen_random_uuid(), CASE WHEN n = 99951 THEN 'summary' ELSE 'assistant' END, n,
       CASE WHEN n = 99951 THEN 99950 ELSE 0 END, repeat('x', 200), now(), n
FROM generate_series(1, 100000) n;
ANALYZE"""


async def test_of_a_long_transcript_nothing_is_read_that_a_summary_covers(database: Database) -> None:
    async with database.connection() as connection:
        await connection.execute(_COVERED)
        statement = transcript._LOAD_ROWS.replace("$1", f"'{BIG}'")
        explained = await connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}")
        read = [node["Actual Rows"] for node in _nodes(json.loads(explained)[0]["Plan"])]
    assert max(read) == 50
