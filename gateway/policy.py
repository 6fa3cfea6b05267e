"""Who may say what. Pure: from the caller's principal and the request to what the gateway vouches for."""

import re

from gateway.errors import InvalidField, SourceNotAllowed
from spark.agent.v1.agent_service_pb2 import Deposit
from spark.gateway.v1.gateway_service_pb2 import PostInterruptRequest

NUDGING_KINDS = frozenset({"operator", "user", "service", "agent"})
NOTIFYING_KINDS = frozenset({"cron", "webhook"})
KINDS = NUDGING_KINDS | NOTIFYING_KINDS

_NAME = re.compile(r"[a-z0-9._-]{1,100}")
_SESSION_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def admit(principal: str, request: PostInterruptRequest) -> Deposit:
    """The deposit that the gateway answers for: a source that is well formed, that the principal may speak
    as, and that may send this kind of interrupt. Nothing else of the interrupt is looked at.

    Callers have no identity yet: the principal is empty, and everybody may speak as every source.
    Raises InvalidField, SourceNotAllowed.
    """
    if not request.HasField("interrupt"):
        raise InvalidField("interrupt", "is required")
    kind = _kind(request.interrupt.source)
    if request.interrupt.HasField("nudge") and kind not in NUDGING_KINDS:
        raise SourceNotAllowed(request.interrupt.source)
    deposit = Deposit(request_id=request.request_id, principal=principal)
    deposit.interrupt.CopyFrom(request.interrupt)
    return deposit


def _kind(source: str) -> str:
    if not source:
        raise InvalidField("interrupt.source", "is required")
    kind, colon, name = source.partition(":")
    if kind not in KINDS:
        raise InvalidField(
            "interrupt.source",
            f"must be kind or kind:name in lower case; kinds are {', '.join(sorted(KINDS))}",
        )
    if kind == "agent" and colon and not _SESSION_ID.fullmatch(name):
        raise InvalidField("interrupt.source", "an agent's name is its session id")
    if colon and not _NAME.fullmatch(name):
        raise InvalidField("interrupt.source", "a name has 1 to 100 of the characters a-z 0-9 . _ -")
    return kind
