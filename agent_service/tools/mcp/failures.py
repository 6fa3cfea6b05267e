"""Why a server cannot be talked to, in words for people, and never in those of an exception."""

from collections.abc import Iterable
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


def reason_of(error: Exception, secrets: Iterable[str] = ()) -> Reason:
    """Of a group the error that was foreseen, or the first. None of the secrets is in it."""
    found = _leaves(error)
    told = next((leaf for leaf in found if isinstance(leaf, Broken)), found[0])
    words = _words(told)
    for secret in secrets:
        # What is before it says of which kind it is, like `Bearer`.
        words = words.replace(secret.split()[-1], "[secret]")
    return Reason(words[:MAX_LENGTH], type(told).__name__)


def _words(error: BaseException) -> str:
    match error:
        case Broken():
            return str(error)
        case MCPError():
            return f"refused: {' '.join(error.message.split())}"
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
