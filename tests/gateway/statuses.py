"""Reads the google.rpc details of an error, as a caller or the gateway holds it."""

import grpc
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from gateway.errors import DETAILS_KEY, GatewayError

AnyError = GatewayError | grpc.aio.AioRpcError


def raw_details(error: AnyError) -> bytes:
    if isinstance(error, GatewayError):
        return error.details
    return dict(error.trailing_metadata() or ()).get(DETAILS_KEY, b"")


def detail(error: AnyError, kind: type[Message]) -> Message | None:
    for packed in Status.FromString(raw_details(error)).details:
        found = kind()
        if packed.Unpack(found):
            return found
    return None


def info(error: AnyError) -> ErrorInfo:
    found = detail(error, ErrorInfo)
    assert found is not None, "the error has no ErrorInfo"
    assert found.domain == "spark"
    return found


def violations(error: AnyError) -> list[str]:
    return [violation.field for violation in detail(error, BadRequest).field_violations]


def retry_seconds(error: AnyError) -> int:
    return detail(error, RetryInfo).retry_delay.seconds
