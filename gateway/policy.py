"""Who may say what. Pure: from the caller's principal and the request to what the gateway vouches for."""

import re

from gateway.errors import InvalidField, SourceNotAllowed
from spark.agent.v1.agent_service_pb2 import Deposit
from spark.gateway.v1.gateway_service_pb2 import PostInterruptRequest

NUDGING_KINDS = frozenset({"operator", "user", "service", "agent"})

_SOURCE = re.compile(
    r"(?:operator|user|service|cron|webhook)(?::[a-z0-9._-]{1,100})?"
    r"|agent(?::[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})?"
)


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
    if not _SOURCE.fullmatch(source):
        # In the words of the agent service, which checks it again for those who come by another way.
        raise InvalidField(
            "interrupt.source",
            "is not kind or kind:name with one of the kinds operator, user, service, cron, webhook, agent "
            "and a name of 1 to 100 characters a-z 0-9 . _ -, for an agent its session id",
        )
    return source.partition(":")[0]
