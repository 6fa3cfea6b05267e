"""What ends a command early. The texts are for the person at the terminal, one line each.

CommandFailed           exit code 1
    CallFailed          a service answered with an error, or could not be reached
    UsageFailed         exit code 2: the command line itself is wrong
"""

import grpc
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from grpc.aio import AioRpcError

_STATUS_TRAILER = "grpc-status-details-bin"


class CommandFailed(Exception):
    exit_code = 1


class UsageFailed(CommandFailed):
    exit_code = 2


class CallFailed(CommandFailed):
    """`reason` is the contract's, empty where the error is the transport's own."""

    def __init__(self, text: str, code: grpc.StatusCode, reason: str = "") -> None:
        super().__init__(text)
        self.code, self.reason = code, reason

    @property
    def unavailable(self) -> bool:
        return self.code is grpc.StatusCode.UNAVAILABLE


def call_failed(error: AioRpcError, service: str, address: str, variable: str) -> CallFailed:
    """Put a gRPC error into words. `variable` is the setting that holds the address."""
    code, said, reason = error.code(), error.details() or "no details", _reason(error)
    if reason:
        text = f"{said} ({reason})"
    elif code is grpc.StatusCode.UNAVAILABLE:
        text = f"cannot reach the {service} at {address}: start it with `sparkctl up`, or set {variable}"
    elif code is grpc.StatusCode.DEADLINE_EXCEEDED:
        text = f"the {service} at {address} did not answer in time"
    else:
        text = f"the {service} at {address} answered {code.name}: {said}"
    return CallFailed(text, code, reason)


def _reason(error: AioRpcError) -> str:
    status = dict(error.trailing_metadata() or ()).get(_STATUS_TRAILER, b"")
    for detail in Status.FromString(status).details:
        info = ErrorInfo()
        if detail.Unpack(info):
            reason: str = info.reason
            return reason
    return ""
