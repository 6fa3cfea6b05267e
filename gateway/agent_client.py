"""The agent service as the gateway sees it: one channel over all replicas, a method for each thing to ask."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeAlias, TypeVar

import grpc

from gateway.attempts import SILENCE_SECONDS, Call, ask
from gateway.deposits import Deposits, Outcome
from gateway.errors import AgentSilent, refused_call, refused_deposit
from spark.agent.v1.agent_service_pb2 import (
    CancelInterruptRequest,
    CancelInterruptResponse,
    Deposit,
    DepositResult,
    GetInterruptRequest,
    GetInterruptResponse,
    ListInterruptsRequest,
    ListInterruptsResponse,
    WatchInterruptRequest,
    WatchInterruptResponse,
)
from spark.agent.v1.agent_service_pb2_grpc import AgentServiceStub

DEFAULT_DEADLINE_SECONDS = 5.0
# Before a watch that was lost is opened again.
OPEN_AGAIN_SECONDS = 0.1
# A watch that has shown nothing new for so long may be at a replica that hangs, and is opened again.
LOOK_AGAIN_SECONDS = 15.0

# Every call may be repeated: deposits by their request id, the others by their nature. A replica that says it
# is not serving is left out, and without any that does the channel is not ready.
_SERVICE_CONFIG = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "healthCheckConfig": {"serviceName": "spark.agent.v1.AgentService"},
    "methodConfig": [
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 5,
                "initialBackoff": "0.1s",
                "maxBackoff": "1s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ],
}
_OPTIONS: tuple[tuple[str, str | int], ...] = (
    ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
    # A call larger than this buffer is silently not repeated; the default is 256 KiB.
    ("grpc.per_rpc_retry_buffer_size", 8 * 1024 * 1024),
    # The agent service is a neighbour: a proxy of the environment is not meant for it.
    ("grpc.enable_http_proxy", 0),
    # A replica that stands still is left out until it answers again.
    ("grpc.keepalive_time_ms", 15_000),
    # It is this limit that counts, not grpc.keepalive_timeout_ms.
    ("grpc.http2.ping_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # An agent service that was restarted is found again at once, not after the default of up to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
)


Request = TypeVar("Request")
Response = TypeVar("Response")
_Watch: TypeAlias = "grpc.aio.UnaryStreamCall[WatchInterruptRequest, WatchInterruptResponse]"


class AgentClient:
    """Asks the agent service. Every method raises GatewayError.

    A deadline is in seconds from now; None stands for a caller that has none.
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        tasks: asyncio.TaskGroup,
        silence_seconds: float,
        look_again_seconds: float,
    ) -> None:
        self._channel = channel
        self._silence_seconds, self._look_again_seconds = silence_seconds, look_again_seconds
        self._stub = AgentServiceStub(channel)
        self._deposits = Deposits(partial(ask, self._stub.DepositInterrupts, silence_seconds), tasks)

    async def deposit(self, deposit: Deposit, deadline_seconds: float | None) -> DepositResult:
        """The interrupt, after its commit."""
        (outcome,) = await self.deposit_all([deposit], deadline_seconds)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    async def deposit_all(
        self, deposits: Sequence[Deposit], deadline_seconds: float | None
    ) -> list[DepositResult | BaseException]:
        """What `deposit` would return or raise, for each of several that leave together."""
        if not deposits:
            return []
        timeout_seconds = _or_default(deadline_seconds)
        deadline = asyncio.get_running_loop().time() + timeout_seconds
        try:
            async with asyncio.timeout(timeout_seconds):
                outcomes = await self._deposits.submit(deposits, deadline)
        except TimeoutError:
            return [AgentSilent() for _ in deposits]
        return list(map(_told, outcomes))

    async def get(self, request: GetInterruptRequest, deadline_seconds: float | None) -> GetInterruptResponse:
        return await self._ask(self._stub.GetInterrupt, request, _or_default(deadline_seconds))

    async def page(
        self, request: ListInterruptsRequest, deadline_seconds: float | None
    ) -> ListInterruptsResponse:
        return await self._ask(self._stub.ListInterrupts, request, _or_default(deadline_seconds))

    async def cancel(
        self, request: CancelInterruptRequest, deadline_seconds: float | None
    ) -> CancelInterruptResponse:
        return await self._ask(self._stub.CancelInterrupt, request, _or_default(deadline_seconds))

    async def watch(
        self, request: WatchInterruptRequest, deadline_seconds: float | None
    ) -> AsyncGenerator[WatchInterruptResponse, None]:
        """The interrupt now, then at each change, until it is final. A watch that loses its replica, or hears
        nothing of it, is opened again at another one."""
        clock, shown = asyncio.get_running_loop().time, None
        deadline = None if deadline_seconds is None else clock() + deadline_seconds
        while True:
            left_seconds = None if deadline is None else deadline - clock()
            try:
                async with self._watching(request, left_seconds) as (call, response):
                    while response:
                        if response != shown:
                            yield response
                        shown = response
                        async with asyncio.timeout(self._look_again_seconds):
                            response = await _next(call)
                    return
            except TimeoutError:
                pass
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise refused_call(error) from error
                await asyncio.sleep(OPEN_AGAIN_SECONDS)

    @asynccontextmanager
    async def _watching(
        self, request: WatchInterruptRequest, timeout_seconds: float | None
    ) -> AsyncIterator[tuple[_Watch, WatchInterruptResponse | None]]:
        """A watch at a replica that is not silent, with the first that it shows. Raises GatewayError where
        none can be opened."""
        # A call stays open until it is cancelled: the one that is read, and those that answered as well.
        calls: list[_Watch] = []

        async def opened(
            request: WatchInterruptRequest,
            *,
            timeout: float | None,  # noqa: ASYNC109 (called as a stub's methods are)
        ) -> tuple[_Watch, WatchInterruptResponse | None]:
            calls.append(call := self._stub.WatchInterrupt(request, timeout=timeout))
            return call, await _next(call)

        try:
            watching = await self._ask(opened, request, timeout_seconds)
            for call in calls:
                if call is not watching[0]:
                    call.cancel()
            yield watching
        finally:
            for call in calls:
                call.cancel()

    async def reachable(self) -> AsyncIterator[bool]:
        """Whether a replica of the agent service is serving: now, then at each change. Never ends."""
        told: bool | None = None
        while True:
            state = self._channel.get_state(try_to_connect=True)
            ready = state is grpc.ChannelConnectivity.READY
            if ready is not told:
                yield ready
            told = ready
            await self._channel.wait_for_state_change(state)

    async def _ask(
        self,
        call: Call[Request, Response],
        request: Request,
        timeout_seconds: float | None,
    ) -> Response:
        try:
            return await ask(call, self._silence_seconds, request, timeout_seconds)
        except grpc.aio.AioRpcError as error:
            raise refused_call(error) from error


async def _next(watch: _Watch) -> WatchInterruptResponse | None:
    """What it shows next; None where it has ended."""
    response = await watch.read()
    return response if isinstance(response, WatchInterruptResponse) else None


def _told(outcome: Outcome) -> DepositResult | BaseException:
    match outcome:
        case DepositResult():
            return outcome if outcome.HasField("interrupt") else refused_deposit(outcome.error)
        case grpc.aio.AioRpcError():
            return refused_call(outcome)
        case unexpected:
            return unexpected


def _or_default(deadline_seconds: float | None) -> float:
    return DEFAULT_DEADLINE_SECONDS if deadline_seconds is None else deadline_seconds


@asynccontextmanager
async def connect(
    address: str,
    silence_seconds: float = SILENCE_SECONDS,
    look_again_seconds: float = LOOK_AGAIN_SECONDS,
) -> AsyncIterator[AgentClient]:
    """A client of the agent service at a gRPC target. It gives a replica so much time before it asks another
    one, too, and a watch so much before it is opened again. Leaving cancels what is in flight."""
    async with asyncio.TaskGroup() as tasks, grpc.aio.insecure_channel(address, options=_OPTIONS) as channel:
        yield AgentClient(channel, tasks, silence_seconds, look_again_seconds)
