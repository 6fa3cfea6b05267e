"""What the tables of bad input are made of: rows, and the ways that a request can take."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pool import Default
from google.protobuf.message import Message

from tests.e2e.client import AGENT, GATEWAY

# The status and the reason.
Refusal = tuple[str, str]

INVALID = ("INVALID_ARGUMENT", "INVALID_FIELD")
NO_SESSION = ("NOT_FOUND", "SESSION_NOT_FOUND")
NO_INTERRUPT = ("NOT_FOUND", "INTERRUPT_NOT_FOUND")
ENDED = ("FAILED_PRECONDITION", "SESSION_ENDED")
NOT_PENDING = ("FAILED_PRECONDITION", "INTERRUPT_NOT_PENDING")
NOT_CONFIGURED = ("FAILED_PRECONDITION", "CONFIG_NOT_FOUND")
REUSED = ("ALREADY_EXISTS", "REQUEST_ID_REUSED")
TOO_MANY = ("RESOURCE_EXHAUSTED", "TOO_MANY_PENDING")
NOT_ALLOWED = ("PERMISSION_DENIED", "SOURCE_NOT_ALLOWED")
OUT_OF_RANGE = ("OUT_OF_RANGE", "REVISION_OUT_OF_RANGE")

UNKNOWN_ID = "00000000-0000-7000-8000-000000000000"


def _stand_in(name: str) -> str:
    """As long as an id or a token: it can take the place of one in a request's bytes."""
    return f"<{name}>".ljust(len(UNKNOWN_ID))


# Rows are written down before there is any session. What these stand for is put in when a row is sent.
PAUSED = _stand_in("takes posts, and does nothing")
OVER = _stand_in("has ended")
CROWDED = _stand_in("has all that a source may post")
FULL = _stand_in("has all that may be pending")
CANCELLED = _stand_in("an interrupt that was cancelled")
SUPERSEDED = _stand_in("an interrupt that was replaced")
TOKEN = _stand_in("for the interrupts of FULL")


@dataclass(frozen=True)
class Row:
    """A request, and how it must be refused. That for a post is a Deposit, whatever the way."""

    method: str
    name: str
    request: Message
    refusal: Refusal
    field: str

    def __str__(self) -> str:
        return f"{self.method}: {self.name}"


def refused(method: str, refusal: Refusal, field: str, requests: Mapping[str, Message]) -> list[Row]:
    return [Row(method, name, request, refusal, field) for name, request in requests.items()]


def each(what: str, words: Mapping[str, str], request: Callable[[str], Message]) -> dict[str, Message]:
    """A request with each of the words."""
    return {f"{what}, {name}": request(word) for name, word in words.items()}


@dataclass(frozen=True)
class Way:
    """A method, called with a request, or with a batch of which the request is the only item."""

    method: MethodDescriptor
    in_batch: bool = False

    @property
    def door(self) -> str:
        return self.method.containing_service.full_name

    @property
    def path(self) -> str:
        return f"/{self.door}/{self.method.name}"

    def __str__(self) -> str:
        return self.path


def methods(service: str) -> Mapping[str, MethodDescriptor]:
    return Default().FindServiceByName(service).methods_by_name


def ways(method: str) -> list[Way]:
    """Every way to a method. Three lead to PostInterrupt; Deposit stands for the last of them alone."""
    deposit = Way(methods(AGENT)["DepositInterrupts"], in_batch=True)
    if method == "Deposit":
        return [deposit]
    found = [Way(methods(service)[method]) for service in (GATEWAY, AGENT) if method in methods(service)]
    if method == "PostInterrupt":
        return [*found, Way(methods(GATEWAY)["BatchPostInterrupts"], in_batch=True), deposit]
    return found
