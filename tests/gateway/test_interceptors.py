"""The interceptor before a servicer of the test's own, over a real channel."""
# ruff: noqa: N802 (the names of the methods are the contract's)

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest
from structlog.testing import capture_logs

from gateway.errors import InvalidField, Stopping
from gateway.interceptors import Statuses
from spark.gateway.v1 import gateway_service_pb2 as pb
from spark.gateway.v1.gateway_service_pb2_grpc import (
    GatewayServiceServicer,
    GatewayServiceStub,
    add_GatewayServiceServicer_to_server,
)
from tests.gateway.statuses import info, violations

SECRET = "the text of an exception"
POST = "/spark.gateway.v1.GatewayService/PostInterrupt"
WATCH = "/spark.gateway.v1.GatewayService/WatchInterrupt"


class Raising(GatewayServiceServicer):
    def __init__(self, error: Exception | None) -> None:
        self._error = error

    async def PostInterrupt(self, request, context):
        if self._error:
            raise self._error
        return pb.PostInterruptResponse(duplicate=True)

    async def WatchInterrupt(self, request, context):
        yield pb.WatchInterruptResponse()
        if self._error:
            raise self._error


@asynccontextmanager
async def serving(error: Exception | None = None) -> AsyncIterator[grpc.aio.Channel]:
    server = grpc.aio.server(interceptors=[Statuses()])
    add_GatewayServiceServicer_to_server(Raising(error), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel
    await server.stop(None)


async def test_an_answer_passes_through():
    async with serving() as channel:
        stub = GatewayServiceStub(channel)

        assert (await stub.PostInterrupt(pb.PostInterruptRequest())).duplicate
        assert len([one async for one in stub.WatchInterrupt(pb.WatchInterruptRequest())]) == 1


@pytest.mark.parametrize(
    "malformed",
    [
        pytest.param(b"\xff\xff\xff", id="no protobuf at all"),
        pytest.param(b"\x12\x02\xff\xfe", id="a request id that is no UTF-8"),
        pytest.param(b"\x12\x05abc", id="cut short"),
    ],
)
async def test_malformed_bytes_are_an_invalid_argument(malformed):
    async with serving() as channel:
        with pytest.raises(grpc.aio.AioRpcError) as told:
            await channel.unary_unary(POST)(malformed)

    assert told.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert info(told.value).reason == "INVALID_FIELD"
    assert violations(told.value) == [""]


async def test_malformed_bytes_that_ask_for_a_stream_are_an_invalid_argument():
    async with serving() as channel:
        with pytest.raises(grpc.aio.AioRpcError) as told:
            [one async for one in channel.unary_stream(WATCH)(b"\xff")]

    assert told.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("method", [POST, WATCH])
async def test_a_call_without_a_request_is_an_invalid_argument_and_not_left_waiting(method):
    async with serving() as channel:
        with pytest.raises(grpc.aio.AioRpcError) as told:
            await channel.stream_stream(method)([], timeout=10).read()

    assert told.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert info(told.value).reason == "INVALID_FIELD"


async def test_an_error_of_ours_is_told_in_its_own_words():
    async with serving(InvalidField("interrupt", "is required")) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as told:
            await GatewayServiceStub(channel).PostInterrupt(pb.PostInterruptRequest())

    assert told.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert told.value.details() == "interrupt: is required"


@pytest.mark.parametrize("error", [ValueError(SECRET), RuntimeError(SECRET), NotImplementedError(SECRET)])
async def test_the_text_of_any_other_error_stays_in_the_log(error):
    async with serving(error) as channel:
        with capture_logs() as logs, pytest.raises(grpc.aio.AioRpcError) as told:
            await GatewayServiceStub(channel).PostInterrupt(pb.PostInterruptRequest())

    assert told.value.code() is grpc.StatusCode.INTERNAL
    assert told.value.details() == "internal error"
    assert info(told.value).reason == "INTERNAL"
    assert SECRET not in str(told.value.trailing_metadata())
    assert [line["exc_info"] for line in logs] == [error]


async def test_an_error_in_the_middle_of_a_stream_ends_it_with_its_status():
    async with serving(Stopping()) as channel:
        stream = GatewayServiceStub(channel).WatchInterrupt(pb.WatchInterruptRequest())
        await stream.read()
        with pytest.raises(grpc.aio.AioRpcError) as told:
            await stream.read()

    assert told.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_method_that_nobody_knows_is_unimplemented():
    async with serving() as channel:
        with pytest.raises(grpc.aio.AioRpcError) as told:
            await channel.unary_unary("/spark.gateway.v1.GatewayService/Nothing")(b"")

    assert told.value.code() is grpc.StatusCode.UNIMPLEMENTED
