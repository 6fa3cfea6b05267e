"""Errors as a gRPC client gets them: a google.rpc.Status with an ErrorInfo, by class of the error."""

from collections.abc import Mapping
from datetime import timedelta

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.code_pb2 import Code
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from agent_service.errors import (
    ConfigNotFound,
    InterruptNotFound,
    InterruptNotPending,
    InvalidField,
    RequestIdReused,
    RevisionOutOfRange,
    SessionEnded,
    SessionNotFound,
    SourceNotAllowed,
    SparkError,
    TooManyPending,
    Unavailable,
)

DOMAIN = "spark"

_CODES: Mapping[type[SparkError], Code] = {
    InvalidField: Code.INVALID_ARGUMENT,
    SessionNotFound: Code.NOT_FOUND,
    InterruptNotFound: Code.NOT_FOUND,
    SessionEnded: Code.FAILED_PRECONDITION,
    InterruptNotPending: Code.FAILED_PRECONDITION,
    ConfigNotFound: Code.FAILED_PRECONDITION,
    RequestIdReused: Code.ALREADY_EXISTS,
    TooManyPending: Code.RESOURCE_EXHAUSTED,
    SourceNotAllowed: Code.PERMISSION_DENIED,
    RevisionOutOfRange: Code.OUT_OF_RANGE,
    Unavailable: Code.UNAVAILABLE,
}


def status_of(error: SparkError) -> Status:
    info = ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=error.metadata)
    return _status(_CODES[type(error)], str(error), info, *_advice(error))


def internal_error() -> Status:
    """What a client learns of an error that is ours: nothing. The log has the rest."""
    return _status(Code.INTERNAL, "internal error", ErrorInfo(reason="INTERNAL", domain=DOMAIN))


def not_implemented() -> Status:
    info = ErrorInfo(reason="UNIMPLEMENTED", domain=DOMAIN)
    return _status(Code.UNIMPLEMENTED, "this method is not served yet", info)


def _advice(error: SparkError) -> list[Message]:
    """What helps the caller beyond the reason: the fields to mend, or how long to wait."""
    if isinstance(error, InvalidField):
        violations = [
            BadRequest.FieldViolation(field=violation.field, description=violation.description)
            for violation in error.violations
        ]
        return [BadRequest(field_violations=violations)]
    if isinstance(error, TooManyPending | Unavailable):
        delay = Duration()
        delay.FromTimedelta(timedelta(seconds=error.retry_after_seconds))
        return [RetryInfo(retry_delay=delay)]
    return []


def _status(code: Code, text: str, *details: Message) -> Status:
    status = Status(code=code, message=text)
    for detail in details:
        status.details.add().Pack(detail)
    return status
