"""Names of things, and JSON."""

from collections.abc import Mapping, Sequence
from typing import NewType, TypeAlias
from uuid import UUID

from uuid_utils.compat import uuid7

SessionId = NewType("SessionId", UUID)
MessageId = NewType("MessageId", UUID)
ReplicaId = NewType("ReplicaId", UUID)

Json: TypeAlias = "Mapping[str, Json] | Sequence[Json] | str | int | float | bool | None"
JsonObject: TypeAlias = Mapping[str, Json]


def new_id() -> UUID:
    """A UUIDv7: ids sort by the time of their making."""
    return uuid7()
