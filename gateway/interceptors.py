"""Between the wire and the servicer: decodes requests, and tells callers what went wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Never, TypeAlias, TypeVar, cast

import grpc
import structlog
from google.protobuf.message import DecodeError

from gateway.errors import DETAILS_KEY, GatewayError, Internal, InvalidField

Request = TypeVar("Request")
Response = TypeVar("Response")
Handler: TypeAlias = "grpc.RpcMethodHandler[Request, Response]"
Context: TypeAlias = "grpc.aio.ServicerContext[Request, Response]"

OURS = "/spark."

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


class Statuses(grpc.aio.ServerInterceptor):
    """Decodes the requests of our services, and turns what their servicers raise into a status.

    gRPC would answer malformed bytes and unknown exceptions in Python's words. Health and reflection pass
    through untouched.
    """

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler[Request, Response] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler[Request, Response] | None:
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or not method.startswith(OURS):
            return handler
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(
                _stream(method, handler), response_serializer=handler.response_serializer
            )
        return grpc.unary_unary_rpc_method_handler(
            _unary(method, handler), response_serializer=handler.response_serializer
        )


def _unary(
    method: str, handler: Handler[Request, Response]
) -> Callable[[bytes, Context[Request, Response]], Awaitable[Response]]:
    call = cast(Callable[[Request, object], Awaitable[Response]], handler.unary_unary)

    async def answer(data: bytes, context: Context[Request, Response]) -> Response:
        try:
            return await call(_decode(handler, data), context)
        except Exception as error:
            await _tell(error, method, context)

    return answer


def _stream(
    method: str, handler: Handler[Request, Response]
) -> Callable[[bytes, Context[Request, Response]], AsyncIterator[Response]]:
    call = cast(Callable[[Request, object], AsyncIterator[Response]], handler.unary_stream)

    async def answer(data: bytes, context: Context[Request, Response]) -> AsyncIterator[Response]:
        try:
            async for response in call(_decode(handler, data), context):
                yield response
        except Exception as error:
            await _tell(error, method, context)

    return answer


def _decode(handler: Handler[Request, Response], data: bytes) -> Request:
    decode = cast(Callable[[bytes], Request], handler.request_deserializer)
    try:
        return decode(data)
    except DecodeError:
        raise InvalidField("", "the request cannot be decoded") from None


async def _tell(error: Exception, method: str, context: Context[Request, Response]) -> Never:
    if not isinstance(error, GatewayError):
        log.error("call failed", method=method, exc_info=error)
        error = Internal()
    await context.abort(error.code, error.message, ((DETAILS_KEY, error.details),) if error.details else ())
