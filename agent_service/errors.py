"""What can be wrong, one class for each thing that a caller can act on.

    SparkError
        InvalidField            fix the request
        SessionNotFound
        InterruptNotFound
        SessionEnded
        InterruptNotPending
        ConfigNotFound
        RequestIdReused
        TooManyPending          wait
        SourceNotAllowed
        RevisionOutOfRange
        Unavailable             try again
    LeaseLost                   never leaves the loop

The names of the reasons are the contract's; clients match on them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar


class SparkError(Exception):
    """An error with a reason that clients know. Its text is written for them."""

    reason: ClassVar[str]

    @property
    def metadata(self) -> Mapping[str, str]:
        """Facts for programs, beside the text for people."""
        return {}


@dataclass(frozen=True, slots=True)
class Violation:
    """A field, as a path of the request's own names, and what is wrong with it."""

    field: str
    description: str


class InvalidField(SparkError):
    """The request breaks a rule of the contract."""

    reason = "INVALID_FIELD"

    def __init__(self, *violations: Violation) -> None:
        super().__init__(
            "; ".join(f"{v.field}: {v.description}" if v.field else v.description for v in violations)
        )
        self.violations = violations


class _NamesOne(SparkError):
    """An error about one thing, which it names in text and metadata."""

    key: ClassVar[str]
    text: ClassVar[str]

    def __init__(self, name: object) -> None:
        super().__init__(self.text.format(name))
        self.name = str(name)

    @property
    def metadata(self) -> Mapping[str, str]:
        return {self.key: self.name}


class SessionNotFound(_NamesOne):
    """There is no such session."""

    reason, key, text = "SESSION_NOT_FOUND", "session_id", "session {} does not exist"


class InterruptNotFound(_NamesOne):
    """There is no such interrupt."""

    reason, key, text = "INTERRUPT_NOT_FOUND", "interrupt_id", "interrupt {} does not exist"


class SessionEnded(_NamesOne):
    """The session is over and takes nothing new."""

    reason, key, text = "SESSION_ENDED", "session_id", "session {} has ended"


class InterruptNotPending(_NamesOne):
    """The interrupt was delivered or settled before."""

    reason, key, text = "INTERRUPT_NOT_PENDING", "interrupt_id", "interrupt {} is no longer pending"


class ConfigNotFound(SparkError):
    """The request names a model or a tool that the service does not have."""

    reason = "CONFIG_NOT_FOUND"

    def __init__(self, kind: str, name: str, known: tuple[str, ...]) -> None:
        super().__init__(f"{kind} {name!r} is not configured; known: {', '.join(known)}")
        self.kind, self.name = kind, name

    @property
    def metadata(self) -> Mapping[str, str]:
        return {self.kind: self.name}


class RequestIdReused(_NamesOne):
    """The request id was used before, with another body."""

    reason, key = "REQUEST_ID_REUSED", "request_id"
    text = "request_id {!r} was used before with another body"


class TooManyPending(SparkError):
    """So many interrupts wait that no more are taken until some are delivered."""

    reason = "TOO_MANY_PENDING"
    retry_after_seconds = 5.0

    def __init__(self, what: str, limit_name: str, limit: int) -> None:
        super().__init__(f"{what} has {limit} pending interrupts, the most that {limit_name} allows")
        self.limit_name, self.limit = limit_name, limit

    @property
    def metadata(self) -> Mapping[str, str]:
        return {"limit": self.limit_name, "value": str(self.limit)}


class SourceNotAllowed(SparkError):
    """The source may not send this kind of interrupt."""

    reason = "SOURCE_NOT_ALLOWED"

    def __init__(self, source: str) -> None:
        super().__init__(f"source {source!r} may notify but not nudge")
        self.source = source

    @property
    def metadata(self) -> Mapping[str, str]:
        return {"source": self.source}


class RevisionOutOfRange(SparkError):
    """The cursor lies behind the session's newest revision."""

    reason = "REVISION_OUT_OF_RANGE"

    def __init__(self, after_revision: int, newest: int) -> None:
        super().__init__(f"after_revision {after_revision} is later than the newest revision, {newest}")
        self.newest = newest

    @property
    def metadata(self) -> Mapping[str, str]:
        return {"newest_revision": str(self.newest)}


class Unavailable(SparkError):
    """The service cannot answer now. Whether a write happened is unknown; repeating it is safe."""

    reason = "UNAVAILABLE"
    retry_after_seconds = 1.0


class LeaseLost(Exception):
    """Another worker holds the session, or it ended: this worker writes nothing more."""
