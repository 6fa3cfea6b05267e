"""The one place that speaks status codes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
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
Context: TypeAlias = "grpc.aio.ServicerContext[Request, Response]"


class StatusInterceptor(grpc.aio.ServerInterceptor):
    """Decodes the requests of our services, and turns what their handlers raise into a status.

    grpc itself would answer malformed bytes and unknown exceptions with Python's words. A client that accepts
    nothing of a stream for `write_seconds` is told to open it again. Other services pass through untouched.
    """

    def __init__(self, package: str, write_seconds: float = 60) -> None:
        self._prefix = f"/{package}."
        self._write_seconds = write_seconds
        self._log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler[Request, Response] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler[Request, Response] | None:
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or not method.startswith(self._prefix):
            return handler
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(
                self._streaming(method, handler), response_serializer=handler.response_serializer
            )
        return grpc.unary_unary_rpc_method_handler(
            self._unary(method, handler), response_serializer=handler.response_serializer
        )

    def _unary(
        self, method: str, handler: Handler[Request, Response]
    ) -> Callable[[bytes, Context[Request, Response]], Awaitable[Response]]:
        answer = cast(Callable[[Request, object], Awaitable[Response]], handler.unary_unary)

        async def call(raw: bytes, context: Context[Request, Response]) -> Response:
            try:
                return await answer(_decode(handler, raw), context)
            except Exception as error:
                await self._fail(error, method, context)

        return call

    def _streaming(
        self, method: str, handler: Handler[Request, Response]
    ) -> Callable[[bytes, Context[Request, Response]], Awaitable[None]]:
        answer = cast(Callable[[Request, object], AsyncGenerator[Response, None]], handler.unary_stream)

        async def call(raw: bytes, context: Context[Request, Response]) -> None:
            try:
                async with aclosing(answer(_decode(handler, raw), context)) as responses:
                    async for response in responses:
                        await self._write(context, response)
            except Exception as error:
                await self._fail(error, method, context)

        return call

    async def _write(self, context: Context[Request, Response], response: Response) -> None:
        try:
            async with asyncio.timeout(self._write_seconds):
                await context.write(response)
        except TimeoutError:
            raise Unavailable(
                f"nothing was read for {self._write_seconds:g} seconds; open the stream again"
            ) from None

    async def _fail(self, error: Exception, method: str, context: Context[Request, Response]) -> Never:
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


def _decode(handler: Handler[Request, Response], raw: bytes) -> Request:
    decode = cast(Callable[[bytes], Request], handler.request_deserializer)
    try:
        return decode(raw)
    except DecodeError:
        raise InvalidField(Violation("", "the request cannot be decoded")) from None


async def _abort(context: Context[Request, Response], status: Status) -> Never:
    await context.abort_with_status(rpc_status.to_status(status))
