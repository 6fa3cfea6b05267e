"""A call that is not left to one replica alone."""

import asyncio
from typing import TypeVar

import grpc

# An answer takes milliseconds. A replica that is silent for so long may be frozen, and the channel finds that
# out much later.
SILENCE_SECONDS = 1.0

Request = TypeVar("Request")
Response = TypeVar("Response")


async def ask(
    call: grpc.aio.UnaryUnaryMultiCallable[Request, Response],
    silence_seconds: float,
    request: Request,
    timeout_seconds: float,
) -> Response:
    """Make a call, and after a silence a second one beside it, which goes to the next replica. The first
    answer counts. Only for calls that may be repeated. Raises AioRpcError."""
    attempts = {asyncio.ensure_future(call(request, timeout=timeout_seconds))}
    try:
        answered, _ = await asyncio.wait(attempts, timeout=silence_seconds)
        if not answered:
            attempts.add(asyncio.ensure_future(call(request, timeout=timeout_seconds - silence_seconds)))
            answered, _ = await asyncio.wait(attempts, return_when=asyncio.FIRST_COMPLETED)
        return answered.pop().result()
    finally:
        for attempt in attempts:
            attempt.cancel()
        await asyncio.gather(*attempts, return_exceptions=True)
