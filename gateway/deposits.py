"""Deposits that wait at the same time travel together.

Those of one caller are a parcel. It leaves at once while fewer than MAX_CALLS calls are in flight that
are not slow, and takes along what came at the same moment. Parcels that come in the meantime gather, without
a timer, and go with the next call.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeAlias

import grpc
import structlog

from gateway.errors import Internal
from spark.agent.v1.agent_service_pb2 import (
    Deposit,
    DepositInterruptsRequest,
    DepositInterruptsResponse,
    DepositResult,
)

# Measured with 64 posts in flight: one call is committed while the next one gathers. More calls only make
# smaller ones, and the gateway's core is what they wait for.
MAX_CALLS = 2
# A call that takes longer may wait for a single session, or a replica that stands still: it counts no more.
SLOW_SECONDS = 0.25
MAX_DEPOSITS_PER_CALL = 500
MAX_BYTES_PER_CALL = 3 * 1024 * 1024

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


# The agent service's answer, or what fails the call: an AioRpcError, or Internal.
Outcome: TypeAlias = DepositResult | Exception


@dataclass(frozen=True, slots=True, eq=False)
class _Parcel:
    """Deposits of one caller, the loop time at which it gives up, and its end of what becomes of them."""

    deposits: Sequence[Deposit]
    deadline: float
    outcomes: asyncio.Future[Sequence[Outcome]]

    @property
    def size_bytes(self) -> int:
        return sum(deposit.ByteSize() for deposit in self.deposits)


class Deposits:
    """Carries deposits to the agent service. The calls run in the task group, not in the callers' tasks:
    a caller that gives up takes nobody else's deposits along. A call has so many seconds."""

    def __init__(
        self,
        call: Callable[[DepositInterruptsRequest, float], Awaitable[DepositInterruptsResponse]],
        tasks: asyncio.TaskGroup,
    ) -> None:
        self._call, self._tasks = call, tasks
        self._waiting: deque[_Parcel] = deque()
        self._calls = 0

    def submit(self, deposits: Sequence[Deposit], deadline: float) -> asyncio.Future[Sequence[Outcome]]:
        """What becomes of the deposits, in their order; they are not parted.

        Who gives up cancels it, at the latest at the deadline, a time of the loop's clock."""
        loop = asyncio.get_running_loop()
        parcel = _Parcel(deposits, deadline, loop.create_future())
        if not self._waiting:
            # Not before the others are here that come in this same turn of the loop.
            loop.call_soon(self._leave)
        self._waiting.append(parcel)
        return parcel.outcomes

    def _leave(self) -> None:
        while self._calls < MAX_CALLS and (together := self._take()):
            self._calls += 1
            self._tasks.create_task(self._count(self._tasks.create_task(self._send(together))))

    def _take(self) -> list[_Parcel]:
        """The next parcels that fit a call; one that is too large for any travels alone."""
        taken: list[_Parcel] = []
        room, room_bytes = MAX_DEPOSITS_PER_CALL, MAX_BYTES_PER_CALL
        while self._waiting:
            if not self._waiting[0].outcomes.done():
                room -= len(self._waiting[0].deposits)
                room_bytes -= self._waiting[0].size_bytes
                if taken and min(room, room_bytes) < 0:
                    break
                taken.append(self._waiting[0])
            self._waiting.popleft()
        return taken

    async def _count(self, call: asyncio.Task[None]) -> None:
        """Let the next one leave when this one has ended, or is slow."""
        await asyncio.wait((call,), timeout=SLOW_SECONDS)
        self._calls -= 1
        self._leave()

    async def _send(self, together: list[_Parcel]) -> None:
        deposits = [deposit for parcel in together for deposit in parcel.deposits]
        outcomes = iter(await self._outcomes(deposits, max(parcel.deadline for parcel in together)))
        for parcel in together:
            of_parcel = list(islice(outcomes, len(parcel.deposits)))
            if not parcel.outcomes.done():
                parcel.outcomes.set_result(of_parcel)

    async def _outcomes(self, deposits: Sequence[Deposit], deadline: float) -> Sequence[Outcome]:
        """What becomes of deposits that travel together. One that spoils the call for all is left alone with
        it, by halving."""
        try:
            return await self._ask(deposits, deadline)
        except Exception as error:
            if len(deposits) == 1 or not _is_of_the_whole(error):
                return [error] * len(deposits)
        half = len(deposits) // 2
        return [
            *await self._outcomes(deposits[:half], deadline),
            *await self._outcomes(deposits[half:], deadline),
        ]

    async def _ask(self, deposits: Sequence[Deposit], deadline: float) -> Sequence[DepositResult]:
        timeout_seconds = deadline - asyncio.get_running_loop().time()
        response = await self._call(DepositInterruptsRequest(deposits=deposits), timeout_seconds)
        if len(response.results) != len(deposits):
            log.error("results missing", deposits=len(deposits), results=len(response.results))
            raise Internal
        return response.results


def _is_of_the_whole(error: Exception) -> bool:
    """Whether the agent service could not even read the call. What is wrong with a deposit it says in the
    deposit's own result, but one may be nested just too deep to be read a level further down than here."""
    return isinstance(error, grpc.aio.AioRpcError) and error.code() is grpc.StatusCode.INVALID_ARGUMENT
