from uuid import uuid4

import pytest
from google.protobuf.message import Message
from google.rpc.code_pb2 import Code
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from agent_service import errors
from agent_service.errors import SparkError, Violation
from agent_service.rpc.status import internal_error, not_implemented, status_of

SESSION_ID = uuid4()

CASES = [
    (errors.InvalidField(Violation("session.goal", "is required")), Code.INVALID_ARGUMENT, "INVALID_FIELD"),
    (errors.SessionNotFound(SESSION_ID), Code.NOT_FOUND, "SESSION_NOT_FOUND"),
    (errors.InterruptNotFound(SESSION_ID), Code.NOT_FOUND, "INTERRUPT_NOT_FOUND"),
    (errors.SessionEnded(SESSION_ID), Code.FAILED_PRECONDITION, "SESSION_ENDED"),
    (errors.InterruptNotPending(SESSION_ID), Code.FAILED_PRECONDITION, "INTERRUPT_NOT_PENDING"),
    (errors.ConfigNotFound("model", "big", ("demo",)), Code.FAILED_PRECONDITION, "CONFIG_NOT_FOUND"),
    (errors.RequestIdReused("r-1"), Code.ALREADY_EXISTS, "REQUEST_ID_REUSED"),
    (errors.TooManyPending("x", "SPARK_MAX_PENDING", 3), Code.RESOURCE_EXHAUSTED, "TOO_MANY_PENDING"),
    (errors.SourceNotAllowed("cron"), Code.PERMISSION_DENIED, "SOURCE_NOT_ALLOWED"),
    (errors.RevisionOutOfRange(9, 4), Code.OUT_OF_RANGE, "REVISION_OUT_OF_RANGE"),
    (errors.Unavailable("try again"), Code.UNAVAILABLE, "UNAVAILABLE"),
]


def detail(status: Status, kind: type[Message]) -> Message | None:
    for packed in status.details:
        if packed.Is(kind.DESCRIPTOR):
            unpacked = kind()
            packed.Unpack(unpacked)
            return unpacked
    return None


@pytest.mark.parametrize(("error", "code", "reason"), CASES, ids=lambda value: type(value).__name__)
def test_an_error_has_its_code_and_its_reason_in_the_domain_spark(
    error: SparkError, code: int, reason: str
) -> None:
    status = status_of(error)
    assert (status.code, status.message) == (code, str(error))
    assert detail(status, ErrorInfo) == ErrorInfo(reason=reason, domain="spark", metadata=error.metadata)


def test_every_error_that_a_caller_can_get_has_a_code() -> None:
    classes = {
        value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, SparkError)
    }
    with_a_reason = {cls for cls in classes if hasattr(cls, "reason")}
    assert with_a_reason == {type(error) for error, _, _ in CASES}


def test_violations_become_a_bad_request() -> None:
    status = status_of(errors.InvalidField(Violation("a.b", "is required"), Violation("", "is odd")))
    assert detail(status, BadRequest) == BadRequest(
        field_violations=[
            BadRequest.FieldViolation(field="a.b", description="is required"),
            BadRequest.FieldViolation(field="", description="is odd"),
        ]
    )


@pytest.mark.parametrize(
    ("error", "seconds"),
    [(errors.TooManyPending("x", "SPARK_MAX_PENDING", 3), 5), (errors.Unavailable("try again"), 1)],
)
def test_an_error_that_passes_with_time_says_when_to_try_again(error: SparkError, seconds: int) -> None:
    retry = detail(status_of(error), RetryInfo)
    assert isinstance(retry, RetryInfo)
    assert retry.retry_delay.ToSeconds() == seconds


@pytest.mark.parametrize("error", [errors.SessionEnded(SESSION_ID), errors.RequestIdReused("r-1")])
def test_other_errors_promise_nothing(error: SparkError) -> None:
    assert len(status_of(error).details) == 1


def test_errors_without_a_class_have_a_reason_too() -> None:
    for status, reason in ((internal_error(), "INTERNAL"), (not_implemented(), "UNIMPLEMENTED")):
        assert detail(status, ErrorInfo) == ErrorInfo(reason=reason, domain="spark")
