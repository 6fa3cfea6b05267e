"""Posts through the gateway, once however often it is tried."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import grpc
from grpc import aio

from spark.gateway.v1.gateway_service_pb2 import PostInterruptRequest
from spark.gateway.v1.gateway_service_pb2_grpc import GatewayServiceStub

if TYPE_CHECKING:
    # A type of the stubs alone; the generated module does not have it.
    from spark.gateway.v1.gateway_service_pb2_grpc import GatewayServiceAsyncStub

_DEADLINE_SECONDS = 5.0
_LONGEST_PAUSE_SECONDS = 5.0
# The gateway is back, the post may be committed already, some of what waits was delivered: try again.
_TRY_AGAIN = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
)


class Refused(Exception):
    """The gateway will never take the post, for example because the session has ended."""

    def __init__(self, code: grpc.StatusCode) -> None:
        super().__init__(f"refused with {code.name}")
        self.code = code


class Notifier:
    def __init__(self, gateway: "GatewayServiceAsyncStub") -> None:
        self._gateway = gateway

    async def post(self, request: PostInterruptRequest) -> None:
        """Return when the post is acknowledged, however long that takes. It is tried again as it is, under
        the same request id, so that one whose answer was lost is not posted twice. Raises Refused."""
        for pause_seconds in _pauses():
            try:
                await self._gateway.PostInterrupt(request, timeout=_DEADLINE_SECONDS)
                return
            except aio.AioRpcError as error:
                if error.code() not in _TRY_AGAIN:
                    raise Refused(error.code()) from None
            await asyncio.sleep(pause_seconds)


@asynccontextmanager
async def notifier(gateway_address: str) -> AsyncIterator[Notifier]:
    options = (("grpc.enable_http_proxy", 0), ("grpc.max_reconnect_backoff_ms", 2_000))
    async with aio.insecure_channel(gateway_address, options=options) as channel:
        yield Notifier(GatewayServiceStub(channel))


def _pauses() -> Iterator[float]:
    """Seconds: doubling, with jitter."""
    pause_seconds = 0.2
    while True:
        yield pause_seconds * random.uniform(0.75, 1.25)  # noqa: S311 (not for secrets)
        pause_seconds = min(2 * pause_seconds, _LONGEST_PAUSE_SECONDS)
