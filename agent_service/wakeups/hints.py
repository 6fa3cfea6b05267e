"""What travels between replicas: which sessions have new revisions, and who says so."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from uuid import UUID

from pydantic import TypeAdapter, ValidationError

from agent_service.domain import SessionId

# A payload has less than 8000 bytes. One with many sessions costs hardly more than one with a single session.
SESSIONS_PER_PAYLOAD = 180


@dataclass(frozen=True, slots=True)
class Hints:
    """Without sessions it only says that the path between two replicas is open."""

    origin: UUID
    # The origin is about to stop, and takes none of the sessions itself.
    leaving: bool
    session_ids: tuple[SessionId, ...]


_HINTS = TypeAdapter(Hints)


def payloads(origin: UUID, leaving: bool, session_ids: Collection[SessionId]) -> Iterator[str]:
    """One payload at least, and no more than it takes."""
    listed = tuple(session_ids)
    for start in range(0, max(len(listed), 1), SESSIONS_PER_PAYLOAD):
        hints = Hints(origin, leaving, listed[start : start + SESSIONS_PER_PAYLOAD])
        yield _HINTS.dump_json(hints).decode()


def read(payload: object) -> Hints | None:
    """None for what no replica sends: anybody who may use the database may send anything."""
    try:
        return _HINTS.validate_json(str(payload))
    except ValidationError:
        return None
