"""Why a server cannot be talked to, in words for people, and never in those of an exception."""

from dataclasses import dataclass

import httpx2
from mcp import MCPError
from pydantic import ValidationError

MAX_LENGTH = 200


class Broken(Exception):
    """The connection has come to its end. The text says how."""


@dataclass(frozen=True, slots=True)
class Reason:
    """What has gone wrong: in words for people, and for the log by the kind of the error."""

    text: str
    kind: str


def reason_of(error: Exception) -> Reason:
    """Of a group the error that was foreseen, or the first."""
    found = _leaves(error)
    told = next((leaf for leaf in found if isinstance(leaf, Broken)), found[0])
    return Reason(_words(told), type(told).__name__)


def _words(error: BaseException) -> str:
    match error:
        case Broken():
            return str(error)
        case MCPError():
            return f"refused: {' '.join(error.message.split())[:MAX_LENGTH]}"
        case OSError(strerror=str() as reason):
            return f"cannot be started: {reason}"
        case httpx2.TransportError():
            return "cannot be reached"
        case ValidationError():
            return "answers with what is no valid message"
        case _:
            return "failed"


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for one in error.exceptions for leaf in _leaves(one)]
    return [error]
