"""A call that is not left to one replica alone."""

import asyncio
from collections.abc import Awaitable
from typing import Protocol, TypeVar

# An answer takes milliseconds. A replica that is silent for so long may be frozen, and the channel finds that
# out much later.
SILENCE_SECONDS = 1.0
# The channel may choose the same replica twice, where the others are not connected yet.
MAX_ATTEMPTS = 4

Request = TypeVar("Request", contravariant=True)
Response = TypeVar("Response", covariant=True)


class Call(Protocol[Request, Response]):
    """What asks a replica; the timeout is in seconds."""

    def __call__(self, request: Request, *, timeout: float | None) -> Awaitable[Response]: ...


async def ask(
    call: Call[Request, Response],
    silence_seconds: float,
    request: Request,
    timeout_seconds: float | None,
) -> Response:
    """Make a call, and after each silence another one beside it, which goes to the next replica. The first
    answer counts. Only for calls that may be repeated. Raises AioRpcError."""
    time = asyncio.get_running_loop().time
    deadline = None if timeout_seconds is None else time() + timeout_seconds
    attempts: set[asyncio.Future[Response]] = set()
    answered: set[asyncio.Future[Response]] = set()
    try:
        while not answered:
            left_seconds = None if deadline is None else max(0, deadline - time())
            attempts.add(asyncio.ensure_future(call(request, timeout=left_seconds)))
            patience_seconds = silence_seconds if len(attempts) < MAX_ATTEMPTS else None
            answered, _ = await asyncio.wait(
                attempts, timeout=patience_seconds, return_when=asyncio.FIRST_COMPLETED
            )
        # Of those that are done at the same moment one that failed counts last.
        return min(answered, key=_has_failed).result()
    finally:
        for attempt in attempts:
            attempt.cancel()
        await asyncio.gather(*attempts, return_exceptions=True)


def _has_failed(attempt: asyncio.Future[Response]) -> bool:
    return attempt.cancelled() or attempt.exception() is not None
