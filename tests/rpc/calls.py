"""What tests ask of the door again and again, and how its errors are read."""

from collections.abc import Awaitable
from typing import TypeVar
from uuid import uuid4

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from google.rpc.status_pb2 import Status

from spark.agent.v1.agent_service_pb2 import (
    CreateSessionRequest,
    Deposit,
    DepositError,
    DepositInterruptsRequest,
    DepositResult,
)
from spark.agent.v1.interrupt_pb2 import Interrupt, Nudge
from spark.agent.v1.session_pb2 import Session
from tests.rpc.conftest import Door

M = TypeVar("M", bound=Message)


def nudge(
    session_id: str, text: str = "Look north.", request_id: str = "", source: str = "operator"
) -> Deposit:
    interrupt = Interrupt(session_id=session_id, source=source, nudge=Nudge(text=text))
    return Deposit(interrupt=interrupt, request_id=request_id or uuid4().hex)


async def created(door: Door, request_id: str = "", **session: object) -> Session:
    fields = {"goal": "Keep the lamp."} | session
    request = CreateSessionRequest(session=Session(**fields), request_id=request_id)  # type: ignore[arg-type]
    return (await door.stub.CreateSession(request, timeout=10)).session


async def deposited(door: Door, *deposits: Deposit) -> list[DepositResult]:
    response = await door.stub.DepositInterrupts(DepositInterruptsRequest(deposits=deposits), timeout=10)
    return list(response.results)


async def refused(call: Awaitable[object]) -> tuple[grpc.StatusCode, str, Status]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    error = caught.value
    (details,) = (value for key, value in error.trailing_metadata() if key == "grpc-status-details-bin")
    status = Status.FromString(details)
    return error.code(), reason(status), status


def reason(status: Status | DepositError) -> str:
    return unpacked(status, ErrorInfo()).reason


def violated(status: Status | DepositError) -> str:
    return unpacked(status, BadRequest()).field_violations[0].field


def unpacked(status: Status | DepositError, kind: M) -> M:
    (found,) = (detail for detail in status.details if detail.Is(kind.DESCRIPTOR))
    found.Unpack(kind)
    return kind
