import grpc
import pytest
from google.protobuf.any_pb2 import Any
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from google.rpc.status_pb2 import Status

from gateway.errors import AgentSilent, Internal, InvalidField, Refused, refused_call, refused_deposit
from spark.agent.v1.agent_service_pb2 import DepositError
from tests.gateway.statuses import detail, info, raw_details, retry_seconds


def rpc_error(
    code: grpc.StatusCode, message: str, *metadata: tuple[str, str | bytes]
) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(*metadata), message)


def packed(message) -> Any:
    detail = Any()
    detail.Pack(message)
    return detail


def test_a_status_of_the_agent_service_is_passed_on_byte_for_byte():
    details = Status(code=3, message="no", details=[packed(ErrorInfo(reason="X"))]).SerializeToString()
    unknown_field = b"\xfa\x01\x03abc"

    error = refused_call(
        rpc_error(
            grpc.StatusCode.INVALID_ARGUMENT, "no", ("grpc-status-details-bin", details + unknown_field)
        )
    )

    assert isinstance(error, Refused)
    assert (error.code, error.message) == (grpc.StatusCode.INVALID_ARGUMENT, "no")
    assert error.details == details + unknown_field


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED])
def test_a_call_that_nobody_answered_is_unavailable_and_says_when_to_ask_again(code):
    error = refused_call(rpc_error(code, "failed to connect to ipv4:10.0.0.1:50051"))

    assert isinstance(error, AgentSilent)
    assert error.code is grpc.StatusCode.UNAVAILABLE
    assert info(error).reason == "UNAVAILABLE"
    assert retry_seconds(error) == 1
    assert "10.0.0.1" not in error.message


def test_an_unavailable_that_the_agent_service_explains_is_passed_on():
    error = refused_call(
        rpc_error(grpc.StatusCode.UNAVAILABLE, "database away", ("grpc-status-details-bin", b"\x08\x0e"))
    )

    assert (error.message, error.details) == ("database away", b"\x08\x0e")


def test_a_status_without_details_is_passed_on_without_details():
    error = refused_call(rpc_error(grpc.StatusCode.RESOURCE_EXHAUSTED, "too large"))

    assert (error.code, error.message, error.details) == (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "too large",
        b"",
    )


def test_a_refused_deposit_is_rebuilt_into_a_full_status():
    violation = packed(BadRequest(field_violations=[BadRequest.FieldViolation(field="request_id")]))

    error = refused_deposit(DepositError(code=3, message="request_id: too long", details=[violation]))

    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert Status.FromString(error.details) == Status(
        code=3, message="request_id: too long", details=[violation]
    )


@pytest.mark.parametrize("code", [0, 99, -1])
def test_a_refused_deposit_is_never_ok(code):
    error = refused_deposit(DepositError(code=code))

    assert error.code is grpc.StatusCode.UNKNOWN
    assert Status.FromString(error.details).code == grpc.StatusCode.UNKNOWN.value[0]


def test_naming_a_request_id_keeps_everything_else():
    error = InvalidField("interrupt.source", "is required")

    named = error.naming("r1")

    assert (named.code, named.message) == (error.code, error.message)
    assert info(named).reason == "INVALID_FIELD"
    assert info(named).metadata == {"request_id": "r1"}
    assert detail(named, BadRequest) == detail(error, BadRequest)


def test_naming_a_request_id_works_without_details():
    named = Refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "too large", b"").naming("r1")

    assert info(named).reason == "RESOURCE_EXHAUSTED"
    assert info(named).metadata == {"request_id": "r1"}
    status = Status.FromString(raw_details(named))
    assert (status.code, status.message) == (8, "too large")


def test_an_internal_error_says_nothing_of_its_cause():
    assert Internal().message == "internal error"
