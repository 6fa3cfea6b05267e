"""The interceptor around a tiny service, on a real server, with a client that sends and reads bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeAlias
from uuid import uuid4

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from structlog.testing import capture_logs

from agent_service.errors import SessionNotFound, Unavailable
from agent_service.rpc.interceptors import StatusInterceptor
from spark.agent.v1.agent_service_pb2 import GetSessionRequest

Context: TypeAlias = "grpc.aio.ServicerContext[GetSessionRequest, bytes]"
Unary: TypeAlias = Callable[[GetSessionRequest, Context], Awaitable[bytes]]
Streaming: TypeAlias = Callable[[GetSessionRequest, Context], AsyncGenerator[bytes, None]]
Talking: TypeAlias = Callable[[AsyncIterator[GetSessionRequest], Context], AsyncGenerator[bytes, None]]

MALFORMED = b"\xff\xff\xff"
PING = GetSessionRequest(session_id="ping").SerializeToString()


@dataclass
class Client:
    channel: grpc.aio.Channel

    def ask(self, request: bytes = PING) -> Awaitable[bytes]:
        return self.channel.unary_unary("/spark.test.Echo/Ask")(request, timeout=10)

    def stream(self, request: bytes = PING) -> grpc.aio.UnaryStreamCall[bytes, bytes]:
        return self.channel.unary_stream("/spark.test.Echo/Stream")(request, timeout=30)


@asynccontextmanager
async def serving(
    unary: Unary | None = None,
    streaming: Streaming | None = None,
    talking: Talking | None = None,
    write_seconds: float = 60,
) -> AsyncIterator[Client]:
    handlers: dict[str, grpc.RpcMethodHandler[GetSessionRequest, bytes]] = {}
    if unary:
        handlers["Ask"] = grpc.unary_unary_rpc_method_handler(unary, GetSessionRequest.FromString)
    if streaming:
        handlers["Stream"] = grpc.unary_stream_rpc_method_handler(streaming, GetSessionRequest.FromString)
    if talking:
        handlers["Talk"] = grpc.stream_stream_rpc_method_handler(talking, GetSessionRequest.FromString)
    server = grpc.aio.server(interceptors=[StatusInterceptor(write_seconds)])
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("spark.test.Echo", handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield Client(channel)
    finally:
        await server.stop(0)


async def echo(request: GetSessionRequest, context: Context) -> bytes:
    return request.session_id.encode()


async def count(request: GetSessionRequest, context: Context) -> AsyncGenerator[bytes, None]:
    for number in range(3):
        yield b"%d" % number


async def echo_each(
    requests: AsyncIterator[GetSessionRequest], context: Context
) -> AsyncGenerator[bytes, None]:
    async for request in requests:
        yield request.session_id.encode()


def raising(error: Exception) -> Unary:
    async def handler(request: GetSessionRequest, context: Context) -> bytes:
        raise error

    return handler


def raising_later(error: Exception) -> Streaming:
    async def handler(request: GetSessionRequest, context: Context) -> AsyncGenerator[bytes, None]:
        yield b"first"
        raise error

    return handler


async def read_all(call: grpc.aio.UnaryStreamCall[bytes, bytes]) -> None:
    while await call.read() is not grpc.aio.EOF:
        pass


async def status_of(call: Awaitable[bytes]) -> Status:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return rich_status(caught.value)


def rich_status(error: grpc.aio.AioRpcError) -> Status:
    (details,) = (value for key, value in error.trailing_metadata() if key == "grpc-status-details-bin")
    status = Status.FromString(details)
    assert (status.code, status.message) == (error.code().value[0], error.details())
    return status


def info(status: Status) -> ErrorInfo:
    found = ErrorInfo()
    assert status.details[0].Unpack(found)
    return found


async def test_a_call_is_answered() -> None:
    async with serving(echo) as client:
        assert await client.ask() == b"ping"


async def test_a_stream_is_answered() -> None:
    async with serving(streaming=count) as client:
        assert [piece async for piece in client.stream()] == [b"0", b"1", b"2"]


async def test_an_error_becomes_a_status_with_its_reason() -> None:
    session_id = uuid4()
    async with serving(raising(SessionNotFound(session_id))) as client:
        status = await status_of(client.ask())
    assert status.message == f"session {session_id} does not exist"
    assert info(status) == ErrorInfo(
        reason="SESSION_NOT_FOUND", domain="spark", metadata={"session_id": str(session_id)}
    )


async def test_an_error_in_a_stream_comes_after_what_was_sent() -> None:
    async with serving(streaming=raising_later(Unavailable("open it again"))) as client:
        call = client.stream()
        assert await call.read() == b"first"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert info(rich_status(caught.value)).reason == "UNAVAILABLE"


async def test_malformed_bytes_are_an_invalid_request() -> None:
    async with serving(echo, count) as client:
        status = await status_of(client.ask(MALFORMED))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await client.stream(MALFORMED).read()
    for refused in (status, rich_status(caught.value)):
        assert refused.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
        assert refused.message == "the request cannot be decoded"
        assert info(refused).reason == "INVALID_FIELD"


async def test_an_unknown_error_is_logged_and_its_text_stays_here() -> None:
    secret = "password=hunter2"
    with capture_logs() as logs:
        async with serving(raising(KeyError(secret)), raising_later(KeyError(secret))) as client:
            status = await status_of(client.ask())
            call = client.stream()
            assert await call.read() == b"first"
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call.read()
    for answer in (status, rich_status(caught.value)):
        assert (answer.code, answer.message) == (grpc.StatusCode.INTERNAL.value[0], "internal error")
        assert b"hunter2" not in answer.SerializeToString()
        assert b"KeyError" not in answer.SerializeToString()
    assert [(entry["method"], type(entry["exc_info"])) for entry in logs] == [
        ("/spark.test.Echo/Ask", KeyError),
        ("/spark.test.Echo/Stream", KeyError),
    ]


async def test_a_method_that_nobody_wrote_is_unimplemented() -> None:
    async with serving(raising(NotImplementedError("Method not implemented!"))) as client:
        status = await status_of(client.ask())
    assert status.code == grpc.StatusCode.UNIMPLEMENTED.value[0]
    assert status.message == "this method is not served yet"


async def test_a_method_that_does_not_exist_is_unimplemented() -> None:
    async with serving(echo) as client:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await client.stream().read()
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_an_abort_of_grpc_passes() -> None:
    async def abort(request: GetSessionRequest, context: Context) -> bytes:
        await context.abort(grpc.StatusCode.NOT_FOUND, "no such thing")

    with capture_logs() as logs:
        async with serving(abort) as client:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await client.ask()
    assert logs == []
    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.NOT_FOUND, "no such thing")


async def test_a_call_without_a_request_is_refused_and_not_left_waiting() -> None:
    async with serving(echo, count) as client:
        for method in ("Ask", "Stream"):
            call = client.channel.stream_stream(f"/spark.test.Echo/{method}")([], timeout=10)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call.read()
            refused = rich_status(caught.value)
            assert refused.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
            assert refused.message == "the request is missing"


async def test_a_stream_of_requests_is_decoded_one_by_one() -> None:
    async with serving(talking=echo_each) as client:
        talk = client.channel.stream_stream("/spark.test.Echo/Talk")
        call = talk([PING, PING, MALFORMED], timeout=10)
        assert [await call.read(), await call.read()] == [b"ping", b"ping"]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert await talk([], timeout=10).read() is grpc.aio.EOF
    assert rich_status(caught.value).message == "the request cannot be decoded"


async def test_a_client_that_goes_away_closes_the_stream_at_once() -> None:
    closed = asyncio.Event()

    async def endless(request: GetSessionRequest, context: Context) -> AsyncGenerator[bytes, None]:
        try:
            yield b"first"
            await asyncio.Event().wait()
        finally:
            closed.set()

    async with serving(streaming=endless) as client:
        call = client.stream()
        assert await call.read() == b"first"
        call.cancel()
        async with asyncio.timeout(10):
            await closed.wait()


async def test_a_client_that_reads_nothing_is_told_to_open_the_stream_again() -> None:
    closed = asyncio.Event()

    async def flood(request: GetSessionRequest, context: Context) -> AsyncGenerator[bytes, None]:
        try:
            while True:
                yield b"x" * 100_000
        finally:
            closed.set()

    async with serving(streaming=flood, write_seconds=0.2) as client:
        call = client.stream()
        assert await call.read()
        async with asyncio.timeout(10):
            await closed.wait()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await read_all(call)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert caught.value.details() == "nothing was read for 0.2 seconds; open the stream again"
