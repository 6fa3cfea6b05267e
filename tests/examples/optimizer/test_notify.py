import asyncio

import grpc
import pytest

from examples.optimizer.jobs import Failure, new_job
from examples.optimizer.news import over
from examples.optimizer.notify import Refused, notifier
from spark.gateway.v1.gateway_service_pb2 import PostInterruptRequest
from tests.examples.optimizer.scripted_gateway import ScriptedGateway, running


def a_post() -> PostInterruptRequest:
    return over(new_job("s1", []), Failure("no examples"))


@pytest.mark.parametrize(
    "failure",
    [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED],
)
async def test_a_post_that_fails_is_tried_again_under_the_same_request_id(failure: grpc.StatusCode) -> None:
    gateway = ScriptedGateway()
    gateway.failures = [failure, failure]
    async with running(gateway) as address, notifier(address) as posts:
        await posts.post(a_post())
    assert gateway.attempts == [a_post()] * 3
    assert list(gateway.posted.values()) == [a_post()]


async def test_a_post_whose_answer_was_lost_is_not_posted_twice() -> None:
    gateway = ScriptedGateway()
    gateway.failures, gateway.keeps_what_it_fails = [grpc.StatusCode.UNAVAILABLE], True
    async with running(gateway) as address, notifier(address) as posts:
        await posts.post(a_post())
    assert len(gateway.attempts) == 2
    assert list(gateway.posted.values()) == [a_post()]


async def test_a_post_waits_for_a_gateway_that_is_away() -> None:
    gateway = ScriptedGateway()
    async with running(gateway) as address:
        port = int(address.rpartition(":")[2])
    async with notifier(address) as posts:
        posting = asyncio.create_task(posts.post(a_post()))
        async with running(gateway, port):
            await posting
    assert list(gateway.posted.values()) == [a_post()]


async def test_a_post_that_will_never_be_taken_is_given_up() -> None:
    gateway = ScriptedGateway()
    gateway.failure = lambda request: grpc.StatusCode.FAILED_PRECONDITION
    async with running(gateway) as address, notifier(address) as posts:
        with pytest.raises(Refused) as refused:
            await posts.post(a_post())
    assert refused.value.code is grpc.StatusCode.FAILED_PRECONDITION
    assert len(gateway.attempts) == 1
