"""The one place that speaks status codes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Never, TypeAlias, TypeVar, cast

import grpc
import structlog
from google.protobuf.message import DecodeError
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from agent_service.errors import InvalidField, SparkError, Unavailable, Violation
from agent_service.rpc.status import internal_error, not_implemented, status_of

Request = TypeVar("Request")
Response = TypeVar("Response")
Handler: TypeAlias = "grpc.RpcMethodHandler[Request, Response]"
Context: TypeAlias = "grpc.aio.ServicerContext[bytes, Response]"


class StatusInterceptor(grpc.aio.ServerInterceptor):
    """Reads and decodes the requests of all services, and turns what their handlers raise into a status.

    grpc itself would answer malformed bytes and unknown exceptions with Python's words, and a call that ends
    without a request never. A client that accepts nothing of a stream for `write_seconds` is told to open it
    again.
    """

    def __init__(self, write_seconds: float = 60) -> None:
        self._write_seconds = write_seconds
        self._log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler[Request, Response] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler[Request, Response] | None:
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None:
            return None
        # To grpc all requests are streams, so that they are read, and missed, here.
        if handler.response_streaming:
            return grpc.stream_stream_rpc_method_handler(
                self._streaming(method, handler), response_serializer=handler.response_serializer
            )
        return grpc.stream_unary_rpc_method_handler(
            self._unary(method, handler), response_serializer=handler.response_serializer
        )

    def _unary(
        self, method: str, handler: Handler[Request, Response]
    ) -> Callable[[AsyncIterator[bytes], Context[Response]], Awaitable[Response]]:
        answer = cast(Callable[[Request, object], Awaitable[Response]], handler.unary_unary)
        decode = _decoder(handler)

        async def call(raws: AsyncIterator[bytes], context: Context[Response]) -> Response:
            try:
                return await answer(await _only(decode, context), context)
            except Exception as error:
                await self._fail(error, method, context)

        return call

    def _streaming(
        self, method: str, handler: Handler[Request, Response]
    ) -> Callable[[AsyncIterator[bytes], Context[Response]], Awaitable[None]]:
        answer = cast(
            Callable[[object, object], AsyncGenerator[Response, None]],
            handler.stream_stream or handler.unary_stream,
        )
        decode = _decoder(handler)

        async def call(raws: AsyncIterator[bytes], context: Context[Response]) -> None:
            try:
                asked = _all(decode, raws) if handler.request_streaming else await _only(decode, context)
                async with aclosing(answer(asked, context)) as responses:
                    async for response in responses:
                        await self._write(context, response)
            except Exception as error:
                await self._fail(error, method, context)

        return call

    async def _write(self, context: Context[Response], response: Response) -> None:
        try:
            async with asyncio.timeout(self._write_seconds):
                await context.write(response)
        except TimeoutError:
            raise Unavailable(
                f"nothing was read for {self._write_seconds:g} seconds; open the stream again"
            ) from None

    async def _fail(self, error: Exception, method: str, context: Context[Response]) -> Never:
        match error:
            case grpc.aio.BaseError():  # grpc's own: an abort, a call that is over
                raise error
            case SparkError():
                await _abort(context, status_of(error))
            case NotImplementedError():  # from the generated code, for a method that nobody wrote
                await _abort(context, not_implemented())
            case _:
                self._log.error("call failed", method=method, exc_info=error)
                await _abort(context, internal_error())


async def _only(decode: Callable[[bytes], Request], context: Context[Response]) -> Request:
    """The request of a call that has one. What comes after it is not read."""
    raw = await context.read()
    # The stubs know only the type of what is read before the end.
    if cast(object, raw) is grpc.aio.EOF:
        raise InvalidField(Violation("", "the request is missing"))
    return decode(raw)


async def _all(decode: Callable[[bytes], Request], raws: AsyncIterator[bytes]) -> AsyncIterator[Request]:
    async for raw in raws:
        yield decode(raw)


def _decoder(handler: Handler[Request, Response]) -> Callable[[bytes], Request]:
    decode = cast(Callable[[bytes], Request], handler.request_deserializer)

    def checked(raw: bytes) -> Request:
        try:
            return decode(raw)
        except DecodeError:
            raise InvalidField(Violation("", "the request cannot be decoded")) from None

    return checked


async def _abort(context: Context[Response], status: Status) -> Never:
    await context.abort_with_status(rpc_status.to_status(status))
