"""The two services as this program reaches them: a channel each, a deadline on every unary call."""

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Generic, Protocol, TypeAlias, TypeVar

from grpc import aio

from spark.agent.v1.agent_service_pb2_grpc import AgentServiceStub
from spark.gateway.v1.gateway_service_pb2_grpc import GatewayServiceStub
from sparkctl.failures import CallFailed, call_failed

if TYPE_CHECKING:
    # These are types of the stubs alone; the generated modules do not have them.
    from spark.agent.v1.agent_service_pb2_grpc import AgentServiceAsyncStub
    from spark.gateway.v1.gateway_service_pb2_grpc import GatewayServiceAsyncStub

DEADLINE_SECONDS = 5.0
REPEATS = 4

_CHANNEL_OPTIONS = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.keepalive_time_ms", 15_000),
    # It is this limit that counts, not grpc.keepalive_timeout_ms.
    ("grpc.http2.ping_timeout_ms", 5_000),
    # A service that is back is found at once: by default a channel may wait for minutes.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)

Stub = TypeVar("Stub")
Request = TypeVar("Request")
Response = TypeVar("Response")


class _PageRequest(Protocol):
    page_token: str


class _Page(Protocol):
    next_page_token: str


PageRequest = TypeVar("PageRequest", bound=_PageRequest)
Page = TypeVar("Page", bound=_Page)


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the services listen, as gRPC targets."""

    agent: str
    gateway: str


def addresses(environment: Mapping[str, str]) -> Addresses:
    return Addresses(
        agent=environment.get("SPARK_AGENT_ADDRESS") or "127.0.0.1:50051",
        gateway=environment.get("SPARK_GATEWAY_ADDRESS") or "127.0.0.1:50050",
    )


@dataclass(frozen=True, slots=True)
class Connection(Generic[Stub]):
    """A service and how it is reached. Every method raises CallFailed."""

    stub: Stub
    service: str
    address: str
    variable: str

    async def ask(
        self,
        call: aio.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        deadline_seconds: float = DEADLINE_SECONDS,
    ) -> Response:
        try:
            return await call(request, timeout=deadline_seconds)
        except aio.AioRpcError as error:
            raise self._failure(error) from None

    async def ask_again(
        self, call: aio.UnaryUnaryMultiCallable[Request, Response], request: Request
    ) -> Response:
        """Like `ask`, and a few times more while the service is unavailable. Only for what may be
        repeated, as a request that carries a request id."""
        for delay_seconds in islice(backoff(), REPEATS):
            try:
                return await self.ask(call, request)
            except CallFailed as failure:
                if not failure.unavailable:
                    raise
            await asyncio.sleep(delay_seconds)
        return await self.ask(call, request)

    async def pages(
        self, call: aio.UnaryUnaryMultiCallable[PageRequest, Page], request: PageRequest
    ) -> AsyncGenerator[Page]:
        """A listing to its end. The request is used for each page."""
        while True:
            page = await self.ask(call, request)
            yield page
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def listen(
        self,
        call: aio.UnaryStreamMultiCallable[Request, Response],
        request: Request,
        deadline_seconds: float | None = None,
    ) -> AsyncGenerator[Response]:
        stream = call(request, timeout=deadline_seconds)
        try:
            async for response in stream:
                yield response
        except aio.AioRpcError as error:
            raise self._failure(error) from None
        finally:
            stream.cancel()

    def _failure(self, error: aio.AioRpcError) -> CallFailed:
        return call_failed(error, self.service, self.address, self.variable)


AgentService: TypeAlias = "Connection[AgentServiceAsyncStub]"
Gateway: TypeAlias = "Connection[GatewayServiceAsyncStub]"


@asynccontextmanager
async def agent_service(address: str) -> AsyncIterator[AgentService]:
    async with aio.insecure_channel(address, options=_CHANNEL_OPTIONS) as channel:
        yield Connection(AgentServiceStub(channel), "agent service", address, "SPARK_AGENT_ADDRESS")


@asynccontextmanager
async def gateway(address: str) -> AsyncIterator[Gateway]:
    async with aio.insecure_channel(address, options=_CHANNEL_OPTIONS) as channel:
        yield Connection(GatewayServiceStub(channel), "gateway", address, "SPARK_GATEWAY_ADDRESS")


def backoff() -> Iterator[float]:
    """Seconds to wait before each repetition: doubling from 0.2 to 5, with jitter."""
    base_seconds = 0.2
    while True:
        yield base_seconds * random.uniform(0.75, 1.25)  # noqa: S311 (not for secrets)
        base_seconds = min(2 * base_seconds, 5.0)
