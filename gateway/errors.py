"""What a caller can be told, one class for each thing that it can act on.

    GatewayError
        InvalidField        fix the request
        SourceNotAllowed    say it another way, or as somebody else
        AgentSilent         ask again
        Stopping            ask again: another gateway, or this one in a moment
        Internal            report it
        Refused             the agent service's own answer, passed on as it is

The names of the reasons are the contract's; clients match on them.
"""

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from spark.agent.v1.agent_service_pb2 import DepositError
from spark.gateway.v1.gateway_service_pb2 import PostError

DETAILS_KEY = "grpc-status-details-bin"
DOMAIN = "spark"
RETRY_AFTER_SECONDS = 1

_ERROR_CODES: dict[int, grpc.StatusCode] = {
    code.value[0]: code for code in grpc.StatusCode if code is not grpc.StatusCode.OK
}


class GatewayError(Exception):
    """A status for the caller. `details` is a serialised google.rpc.Status, or empty."""

    def __init__(self, code: grpc.StatusCode, message: str, details: bytes) -> None:
        super().__init__(message)
        self.code, self.message, self.details = code, message, details

    def naming(self, request_id: str) -> "GatewayError":
        """The same error with the request id in its ErrorInfo, for a caller that did not choose the id."""
        status = Status.FromString(self.details)
        status.code, status.message = self.code.value[0], self.message
        info = ErrorInfo(reason=self.code.name, domain=DOMAIN)
        for detail in status.details:
            if detail.Unpack(info):
                break
        else:
            detail = status.details.add()
        info.metadata["request_id"] = request_id
        detail.Pack(info)
        return GatewayError(self.code, self.message, status.SerializeToString())


class _OwnError(GatewayError):
    """An error that the gateway makes: its text is the gateway's, its reason the class's."""

    own_code: grpc.StatusCode
    reason: str

    def __init__(self, message: str, *details: Message, **metadata: str) -> None:
        status = Status(code=self.own_code.value[0], message=message)
        for detail in (ErrorInfo(reason=self.reason, domain=DOMAIN, metadata=metadata), *details):
            status.details.add().Pack(detail)
        super().__init__(self.own_code, message, status.SerializeToString())


class InvalidField(_OwnError):
    """The request breaks a rule of the contract. `field` is a path of the request's own names, or empty."""

    own_code, reason = grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"

    def __init__(self, field: str, description: str) -> None:
        violation = BadRequest.FieldViolation(field=field, description=description)
        text = f"{field}: {description}" if field else description
        super().__init__(text, BadRequest(field_violations=[violation]))


class SourceNotAllowed(_OwnError):
    """The source may not send this kind of interrupt."""

    own_code, reason = grpc.StatusCode.PERMISSION_DENIED, "SOURCE_NOT_ALLOWED"

    def __init__(self, source: str) -> None:
        super().__init__(f"source {source!r} may notify but not nudge", source=source)


class _Unavailable(_OwnError):
    own_code, reason = grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE"
    text: str

    def __init__(self) -> None:
        super().__init__(self.text, RetryInfo(retry_delay=Duration(seconds=RETRY_AFTER_SECONDS)))


class AgentSilent(_Unavailable):
    """The agent service does not answer. Whether something was written is unknown."""

    text = "the agent service does not answer; the same request can be sent again"


class Stopping(_Unavailable):
    """The gateway is about to stop."""

    text = "the gateway is stopping; the stream can be opened again"


class Internal(_OwnError):
    """Something is wrong in here. What it is stands in the log and nowhere else."""

    own_code, reason = grpc.StatusCode.INTERNAL, "INTERNAL"

    def __init__(self) -> None:
        super().__init__("internal error")


class Refused(GatewayError):
    """The agent service said no."""


def refused_call(error: grpc.aio.AioRpcError) -> GatewayError:
    """What the caller is told when a call to the agent service fails.

    A status without details that says that nobody answered was made by the channel: it becomes AgentSilent.
    """
    metadata = error.trailing_metadata()
    details = metadata.get(DETAILS_KEY) if metadata else None
    if isinstance(details, bytes):
        return Refused(error.code(), error.details() or "", details)
    if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
        return AgentSilent()
    return Refused(error.code(), error.details() or "", b"")


def refused_deposit(error: DepositError) -> GatewayError:
    """What the caller is told when the agent service refuses one deposit of a call."""
    code = _ERROR_CODES.get(error.code, grpc.StatusCode.UNKNOWN)
    status = Status(code=code.value[0], message=error.message, details=error.details)
    return Refused(code, error.message, status.SerializeToString())


def refused_post(error: GatewayError) -> PostError:
    """What the caller of a batch is told of one post in it."""
    details = Status.FromString(error.details).details
    return PostError(code=error.code.value[0], message=error.message, details=details)
