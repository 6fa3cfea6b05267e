"""What the database says, and what it must say, in the same words."""

from collections.abc import Mapping
from dataclasses import dataclass

from agent_service.store.database import Hot
from tests.store.machine.model import Event, Message, Model, Post, Session, answer_to
from tests.store.machine.world import HOUR, World, replica_id

_SESSIONS = """
SELECT *, due_at - clock_timestamp() AS due_in, not_before - clock_timestamp() AS not_before_in
FROM sessions WHERE session_id = ANY ($1) ORDER BY session_id"""

_MESSAGES = """
SELECT *, deadline - clock_timestamp() AS deadline_in, expire_time - clock_timestamp() AS expires_in
FROM messages WHERE session_id = ANY ($1) ORDER BY session_id, posted_revision"""

_EVENTS = "SELECT * FROM events WHERE session_id = ANY ($1) ORDER BY session_id, revision"

# Of what events keep, what the model says too.
_FACTS = ("turn", "round", "attempt", "state", "goal", "reason", "call_id", "handled_interrupts")

Columns = Mapping[str, object]


@dataclass(frozen=True)
class Reading:
    """Of one session: the columns of its row, its messages, and its events with their revisions."""

    columns: Columns
    messages: tuple[Message, ...]
    events: tuple[tuple[int, Event], ...]


def expected(session: Session) -> Reading:
    columns = {
        "state": session.state,
        "goal": session.goal,
        "turn_goal": session.turn_goal,
        "revision": session.revision,
        "next_position": session.next_position,
        "outstanding": len(session.outstanding),
        "turn": session.turn,
        "turn_open": session.turn_open,
        "round": session.round,
        "attempt": session.attempt,
        "interrupted": session.interrupted,
        "due": session.due,
        "not_before": session.not_before,
        "owner": session.owner,
        "epoch": session.epoch,
        "attempts": session.attempts,
        "tokens": session.tokens,
    }
    messages = sorted(session.messages.values(), key=lambda m: m.posted)
    return Reading(columns, tuple(messages), tuple(enumerate(session.events, 1)))


async def readings(connection: Hot, world: World) -> dict[str, Reading]:
    """Of every session that is still of interest, by its name."""
    live = [world.session_ids[session.name] for session in world.model.live]
    sessions = await connection.fetch(_SESSIONS, live)
    messages = await connection.fetch(_MESSAGES, live)
    events = await connection.fetch(_EVENTS, live)
    clock = world.model.clock
    found = {}
    for row in sessions:
        name, session_id = row["display_name"], row["session_id"]
        own = {m["message_id"]: _message(m, name, clock) for m in messages if m["session_id"] == session_id}
        told = [(e["revision"], _event(e, own)) for e in events if e["session_id"] == session_id]
        found[name] = Reading(_columns(row, world.model), tuple(own.values()), tuple(told))
    return found


def _columns(row: Columns, model: Model) -> Columns:
    owners = {replica_id(name): name for name in model.replicas}
    same = "state goal turn_goal revision next_position outstanding turn turn_open round attempt interrupted"
    return {name: row[name] for name in same.split()} | {
        "due": _hour(row["due_in"], model.clock),
        "not_before": _hour(row["not_before_in"], model.clock),
        "owner": owners.get(row["lease_owner"], row["lease_owner"]),
        "epoch": row["lease_epoch"],
        "attempts": row["attempts"],
        "tokens": row["input_tokens"] + row["output_tokens"],
    }


def _message(row: Columns, session: str, clock: int) -> Message:
    return Message(
        _name(row),
        row["type"],
        row["turn"],
        row["round"],
        row["position"],
        row["covers_through_position"],
        _hour(row["deadline_in"], clock),
        row["posted_revision"],
        row["delivered_revision"],
        row["seen_revision"],
        row["settled_revision"],
        row["settled_as"],
        row["left_waiting"],
        row["principal"],
        _post(row, session, clock) if row["type"] == "system" else None,
    )


def _name(row: Columns) -> str:
    call = f"{row['turn']}.{row['round']} {row['call_id']}"
    match row["type"]:
        case "system":
            return f"{row['source']} {row['request_id']}"
        case "tool_call":
            return call
        case "tool_response":
            return answer_to(call)
        case _:
            return str(row["text"])


def _post(row: Columns, session: str, clock: int) -> Post:
    source = str(row["source"])
    expires = _hour(row["expires_in"], clock)
    key = str(row["coalesce_key"] or "")
    return Post(session, source, str(row["request_id"]), str(row["text"]), str(row["delivery"]), key, expires)


def _event(row: Columns, messages: Mapping[object, Message]) -> Event:
    about = messages[row["message_id"]].name if row["message_id"] else None
    data = row["data"] or {}
    return Event(row["type"], about, {name: data[name] for name in _FACTS if name in data})


def _hour(left: object, clock: int) -> int | None:
    return None if left is None else clock + round(left / HOUR)
