"""Between the wire and the servicer: decodes requests, and tells callers what went wrong."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Never, TypeAlias, TypeVar, cast

import grpc
import structlog
from google.protobuf.message import DecodeError

from gateway.errors import DETAILS_KEY, GatewayError, Internal, InvalidField

Request = TypeVar("Request")
Response = TypeVar("Response")
Handler: TypeAlias = "grpc.RpcMethodHandler[Request, Response]"
Context: TypeAlias = "grpc.aio.ServicerContext[bytes, Response]"

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


class Statuses(grpc.aio.ServerInterceptor):
    """Reads and decodes the requests of all services, and turns what their servicers raise into a status.

    gRPC would answer malformed bytes and unknown exceptions in Python's words, and a call that ends without
    a request never.
    """

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler[Request, Response] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler[Request, Response] | None:
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None:
            return None
        # To gRPC all requests are streams, so that they are read, and missed, here.
        if handler.response_streaming:
            return grpc.stream_stream_rpc_method_handler(
                _stream(method, handler), response_serializer=handler.response_serializer
            )
        return grpc.stream_unary_rpc_method_handler(
            _unary(method, handler), response_serializer=handler.response_serializer
        )


def _unary(
    method: str, handler: Handler[Request, Response]
) -> Callable[[AsyncIterator[bytes], Context[Response]], Awaitable[Response]]:
    call = cast(Callable[[Request, object], Awaitable[Response]], handler.unary_unary)
    decode = _decoder(handler)

    async def answer(requests: AsyncIterator[bytes], context: Context[Response]) -> Response:
        try:
            return await call(await _only(decode, context), context)
        except Exception as error:
            await _tell(error, method, context)

    return answer


def _stream(
    method: str, handler: Handler[Request, Response]
) -> Callable[[AsyncIterator[bytes], Context[Response]], Awaitable[None]]:
    call = cast(
        Callable[[object, object], AsyncGenerator[Response, None]],
        handler.stream_stream or handler.unary_stream,
    )
    decode = _decoder(handler)

    async def answer(requests: AsyncIterator[bytes], context: Context[Response]) -> None:
        try:
            asked = _all(decode, requests) if handler.request_streaming else await _only(decode, context)
            async with aclosing(call(asked, context)) as responses:
                async for response in responses:
                    await context.write(response)
        except Exception as error:
            await _tell(error, method, context)

    return answer


async def _only(decode: Callable[[bytes], Request], context: Context[Response]) -> Request:
    """The request of a call that has one. What comes after it is not read."""
    data = await context.read()
    # The stubs know only the type of what is read before the end.
    if cast(object, data) is grpc.aio.EOF:
        raise InvalidField("", "the request is missing")
    return decode(data)


async def _all(decode: Callable[[bytes], Request], requests: AsyncIterator[bytes]) -> AsyncIterator[Request]:
    async for data in requests:
        yield decode(data)


def _decoder(handler: Handler[Request, Response]) -> Callable[[bytes], Request]:
    decode = cast(Callable[[bytes], Request], handler.request_deserializer)

    def checked(data: bytes) -> Request:
        try:
            return decode(data)
        except DecodeError:
            raise InvalidField("", "the request cannot be decoded") from None

    return checked


async def _tell(error: Exception, method: str, context: Context[Response]) -> Never:
    if isinstance(error, grpc.aio.BaseError):  # gRPC's own: an abort, a call that is over
        raise error
    if not isinstance(error, GatewayError):
        log.error("call failed", method=method, exc_info=error)
        error = Internal()
    await context.abort(error.code, error.message, ((DETAILS_KEY, error.details),) if error.details else ())
