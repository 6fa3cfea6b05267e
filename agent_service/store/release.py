"""What every statement that gives a session back has in common, as SQL.

A release raises the epoch, so that nothing of the holder's is written after it, and says when the session is
due: a parked one at the deadline of its wait, any other open turn now, a closed one at the end of its
cooldown. An interrupt makes it due at once by `outstanding`, which a release leaves alone.
"""

RELEASED = "lease_owner = NULL, lease_epoch = lease_epoch + 1"

# A turn that is closed now: without turns of its own a session has no time to be due.
DUE_AFTER_TURN = """CASE WHEN config->>'mode' = 'autonomous' THEN
    clock_timestamp() + (config->>'cooldown_microseconds')::bigint * interval '1 microsecond' END"""


def due(open_turn: str) -> str:
    """When a session is due whose holder changed nothing of its turn; for an open turn as given."""
    return f"""CASE WHEN turn_open THEN {open_turn}
    WHEN config->>'mode' = 'autonomous' THEN due_at END"""
