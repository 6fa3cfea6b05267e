"""A call that is not left to one replica alone."""

import asyncio
from typing import TypeVar

import grpc

# An answer takes milliseconds. A replica that is silent for so long may be frozen, and the channel finds that
# out much later.
SILENCE_SECONDS = 1.0
# The channel may choose the same replica twice, where the others are not connected yet.
MAX_ATTEMPTS = 4

Request = TypeVar("Request")
Response = TypeVar("Response")


async def ask(
    call: grpc.aio.UnaryUnaryMultiCallable[Request, Response],
    silence_seconds: float,
    request: Request,
    timeout_seconds: float,
) -> Response:
    """Make a call, and after each silence another one beside it, which goes to the next replica. The first
    answer counts. Only for calls that may be repeated. Raises AioRpcError."""
    time = asyncio.get_running_loop().time
    deadline = time() + timeout_seconds
    attempts: set[asyncio.Future[Response]] = set()
    answered: set[asyncio.Future[Response]] = set()
    try:
        while not answered:
            attempts.add(asyncio.ensure_future(call(request, timeout=max(0, deadline - time()))))
            patience_seconds = silence_seconds if len(attempts) < MAX_ATTEMPTS else None
            answered, _ = await asyncio.wait(
                attempts, timeout=patience_seconds, return_when=asyncio.FIRST_COMPLETED
            )
        return answered.pop().result()
    finally:
        for attempt in attempts:
            attempt.cancel()
        await asyncio.gather(*attempts, return_exceptions=True)
