"""Deposits that wait at the same time travel together.

A deposit leaves at once while fewer than MAX_CALLS calls are in flight, and takes along what came at the same
moment. Those that come in the meantime gather, without a timer, and go with the next call.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

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
MAX_DEPOSITS_PER_CALL = 500
MAX_BYTES_PER_CALL = 3 * 1024 * 1024

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    """A deposit, the loop time at which its caller gives up, and the caller's end of the result."""

    deposit: Deposit
    deadline: float
    result: asyncio.Future[DepositResult]


class Deposits:
    """Carries deposits to the agent service. The calls run in the task group, not in the callers' tasks:
    a caller that gives up takes nobody else's deposit along. A call has so many seconds."""

    def __init__(
        self,
        call: Callable[[DepositInterruptsRequest, float], Awaitable[DepositInterruptsResponse]],
        tasks: asyncio.TaskGroup,
    ) -> None:
        self._call, self._tasks = call, tasks
        self._waiting: deque[_Waiting] = deque()
        self._calls = 0

    def submit(self, deposit: Deposit, deadline: float) -> asyncio.Future[DepositResult]:
        """What becomes of the deposit, or what fails the call that it is in: an AioRpcError, or Internal.

        Who gives up cancels it, at the latest at the deadline, a time of the loop's clock."""
        loop = asyncio.get_running_loop()
        waiting = _Waiting(deposit, deadline, loop.create_future())
        if not self._waiting:
            # Not before the rest of a batch is here, which comes in this same turn of the loop.
            loop.call_soon(self._leave)
        self._waiting.append(waiting)
        return waiting.result

    def _leave(self) -> None:
        while self._calls < MAX_CALLS and (together := self._take()):
            self._calls += 1
            self._tasks.create_task(self._send(together))

    def _take(self) -> list[_Waiting]:
        """The next deposits that fit a call; one that is too large for any travels alone."""
        taken: list[_Waiting] = []
        room_bytes = MAX_BYTES_PER_CALL
        while self._waiting and len(taken) < MAX_DEPOSITS_PER_CALL:
            if not self._waiting[0].result.done():
                room_bytes -= self._waiting[0].deposit.ByteSize()
                if taken and room_bytes < 0:
                    break
                taken.append(self._waiting[0])
            self._waiting.popleft()
        return taken

    async def _send(self, together: list[_Waiting]) -> None:
        try:
            await self._settle(together)
        finally:
            self._calls -= 1
            self._leave()

    async def _settle(self, together: list[_Waiting]) -> None:
        """Tell the callers what became of their deposits. One that spoils the call for all is left alone with
        it, by halving."""
        try:
            results = await self._ask(together)
        except Exception as error:
            if len(together) > 1 and _is_of_the_whole(error):
                half = len(together) // 2
                await self._settle(together[:half])
                await self._settle(together[half:])
                return
            for one in together:
                if not one.result.done():
                    one.result.set_exception(error)
        else:
            for one, result in zip(together, results, strict=True):
                if not one.result.done():
                    one.result.set_result(result)

    async def _ask(self, together: list[_Waiting]) -> Sequence[DepositResult]:
        timeout_seconds = max(one.deadline for one in together) - asyncio.get_running_loop().time()
        request = DepositInterruptsRequest(deposits=[one.deposit for one in together])
        response = await self._call(request, timeout_seconds)
        if len(response.results) != len(together):
            log.error("results missing", deposits=len(together), results=len(response.results))
            raise Internal
        return response.results


def _is_of_the_whole(error: Exception) -> bool:
    """Whether the agent service could not even read the call. What is wrong with a deposit it says in the
    deposit's own result, but one may be nested just too deep to be read a level further down than here."""
    return isinstance(error, grpc.aio.AioRpcError) and error.code() is grpc.StatusCode.INVALID_ARGUMENT
