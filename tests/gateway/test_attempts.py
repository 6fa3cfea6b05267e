"""A call that is made again, beside the one that is silent."""

import asyncio
from collections.abc import Awaitable

import pytest

from gateway.attempts import MAX_ATTEMPTS, ask
from tests.gateway.conditions import until

MOMENT_SECONDS = 0.001


class Replicas:
    """Each call is silent until it is told what comes of it."""

    def __init__(self) -> None:
        self.calls: list[asyncio.Future[str]] = []

    def __call__(self, request: str, *, timeout: float | None) -> Awaitable[str]:
        self.calls.append(asyncio.get_running_loop().create_future())
        return self.calls[-1]

    async def asked_by_all_attempts(self) -> "asyncio.Task[str]":
        asking = asyncio.create_task(ask(self, MOMENT_SECONDS, "how are you?", None))
        await until(lambda: len(self.calls) == MAX_ATTEMPTS)
        return asking


@pytest.mark.parametrize("answering", range(MAX_ATTEMPTS))
async def test_an_answer_counts_before_the_failures_of_the_same_moment(answering):
    replicas = Replicas()
    asking = await replicas.asked_by_all_attempts()
    for n, call in enumerate(replicas.calls):
        if n == answering:
            call.set_result("well")
        else:
            call.set_exception(ConnectionError())

    assert await asking == "well"


async def test_a_failure_counts_where_nobody_has_answered():
    replicas = Replicas()
    asking = await replicas.asked_by_all_attempts()
    replicas.calls[1].set_exception(ConnectionError())

    with pytest.raises(ConnectionError):
        await asking
    assert all(call.cancelled() for n, call in enumerate(replicas.calls) if n != 1)
