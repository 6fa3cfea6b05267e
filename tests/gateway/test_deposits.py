"""Deposits over a real channel, to a server that answers when it is told to."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest

from gateway.agent_client import AgentClient, connect
from gateway.deposits import MAX_CALLS
from gateway.errors import Internal
from spark.agent.v1.agent_service_pb2 import Deposit, DepositError, DepositResult
from spark.agent.v1.interrupt_pb2 import Interrupt, Nudge
from tests.gateway.conditions import until
from tests.gateway.scripted_agent import ScriptedAgent, at_once, deposited, running

KIB = 1024


def deposit(request_id: str, size_bytes: int = 10) -> Deposit:
    return Deposit(request_id=request_id, interrupt=Interrupt(nudge=Nudge(text="x" * size_bytes)))


class Busy:
    """An agent service that has as many calls in flight as there may be, until it is told to answer."""

    def __init__(self, client: AgentClient, script: ScriptedAgent, answer: asyncio.Event) -> None:
        self._client, self.script, self.answer = client, script, answer

    def post(self, one: Deposit) -> asyncio.Task[DepositResult]:
        return asyncio.create_task(self._client.deposit(one, None))

    @property
    def sizes(self) -> list[int]:
        return [len(call.deposits) for call in self.script.calls[MAX_CALLS:]]


@asynccontextmanager
async def busy() -> AsyncIterator[Busy]:
    script, answer = ScriptedAgent(), asyncio.Event()
    script.before = lambda _: answer.wait()
    async with running(script) as agent, connect(agent.address) as client:
        busy = Busy(client, script, answer)
        first = []
        while len(script.calls) < MAX_CALLS:
            first.append(busy.post(deposit(f"first {len(first)}")))
            await until(lambda: len(script.calls) == len(first))
        yield busy
        answer.set()
        await asyncio.gather(*first)


async def test_a_lone_deposit_leaves_at_once_and_alone():
    async with running(ScriptedAgent()) as agent, connect(agent.address) as client:
        for i in range(3):
            await client.deposit(deposit(f"r{i}"), None)

        assert [[one.request_id for one in call.deposits] for call in agent.script.calls] == [
            ["r0"],
            ["r1"],
            ["r2"],
        ]


async def test_deposits_that_come_at_the_same_moment_travel_together():
    async with running(ScriptedAgent()) as agent, connect(agent.address) as client:
        await asyncio.gather(*(client.deposit(deposit(f"r{i}"), None) for i in range(5)))

        assert [len(call.deposits) for call in agent.script.calls] == [5]


async def test_deposits_that_wait_at_the_same_time_travel_together_in_order():
    async with busy() as agent:
        posts = [agent.post(deposit(f"r{i}")) for i in range(5)]
        await asyncio.sleep(0)
        agent.answer.set()

        results = await asyncio.gather(*posts)

        assert agent.sizes == [5]
        assert [result.interrupt.interrupt_id for result in results] == [f"of r{i}" for i in range(5)]


async def test_a_call_holds_at_most_500_deposits():
    async with busy() as agent:
        posts = [agent.post(deposit(f"r{i}")) for i in range(501)]
        await asyncio.sleep(0)
        agent.answer.set()
        await asyncio.gather(*posts)

        assert sorted(agent.sizes) == [1, 500]


async def test_a_call_holds_at_most_3_mib_and_a_larger_deposit_travels_alone():
    async with busy() as agent:
        sizes_kib = (1000, 1000, 1000, 1000, 3500, 1)
        posts = [agent.post(deposit(f"r{i}", size * KIB)) for i, size in enumerate(sizes_kib)]
        await asyncio.sleep(0)
        agent.answer.set()
        await asyncio.gather(*posts)

        together = sorted(
            [one.request_id for one in call.deposits] for call in agent.script.calls[MAX_CALLS:]
        )
        assert together == [["r0", "r1", "r2"], ["r3"], ["r4"], ["r5"]]


async def test_a_caller_that_gives_up_takes_nobody_along():
    async with busy() as agent:
        given_up, other = agent.post(deposit("given up")), agent.post(deposit("other"))
        held, agent.answer = agent.answer, asyncio.Event()
        agent.script.before = lambda _: agent.answer.wait()
        held.set()
        await until(lambda: agent.sizes == [2])

        given_up.cancel()
        agent.answer.set()

        assert (await other).interrupt.interrupt_id == "of other"
        assert given_up.cancelled()


async def test_a_deposit_whose_caller_has_given_up_before_it_left_is_not_sent():
    async with busy() as agent:
        given_up, other = agent.post(deposit("given up")), agent.post(deposit("other"))
        await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.sleep(0)
        agent.answer.set()
        await other

        assert [one.request_id for call in agent.script.calls[MAX_CALLS:] for one in call.deposits] == [
            "other"
        ]


async def test_one_refused_deposit_fails_alone():
    def answer(one: Deposit) -> DepositResult:
        if one.request_id == "bad":
            return DepositResult(error=DepositError(code=9, message="session has ended"))
        return deposited(one)

    async with busy() as agent:
        agent.script.answer = answer
        good, bad = agent.post(deposit("good")), agent.post(deposit("bad"))
        await asyncio.sleep(0)
        agent.answer.set()

        outcomes = await asyncio.gather(good, bad, return_exceptions=True)

        assert agent.sizes == [2]
        assert outcomes[0].interrupt.interrupt_id == "of good"
        assert outcomes[1].code is grpc.StatusCode.FAILED_PRECONDITION


async def test_a_failed_call_fails_every_deposit_in_it_and_no_other():
    async with busy() as agent:
        posts = [agent.post(deposit(f"r{i}")) for i in range(2)]
        await asyncio.sleep(0)
        held, agent.answer = agent.answer, asyncio.Event()
        agent.script.before = lambda context: context.abort(grpc.StatusCode.INTERNAL, "internal error")
        held.set()

        outcomes = await asyncio.gather(*posts, return_exceptions=True)

        assert [outcome.code for outcome in outcomes] == [grpc.StatusCode.INTERNAL] * 2


async def test_a_deposit_that_spoils_the_call_for_all_is_found_and_fails_alone():
    async with busy() as agent:
        posts = [agent.post(deposit("spoils" if i == 3 else f"r{i}")) for i in range(9)]
        await asyncio.sleep(0)
        held, agent.answer = agent.answer, asyncio.Event()

        async def cannot_read_one(context: grpc.aio.ServicerContext) -> None:
            if "spoils" in {one.request_id for one in agent.script.calls[-1].deposits}:
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the request cannot be decoded")

        agent.script.before = cannot_read_one
        held.set()

        outcomes = await asyncio.gather(*posts, return_exceptions=True)

        assert agent.sizes[0] == 9
        assert outcomes.pop(3).code is grpc.StatusCode.INVALID_ARGUMENT
        assert [outcome.interrupt.interrupt_id for outcome in outcomes] == [
            f"of r{i}" for i in range(9) if i != 3
        ]


async def test_missing_results_are_an_internal_error_and_no_hang():
    script = ScriptedAgent()
    async with running(script) as agent, connect(agent.address) as client:
        script.forgets_the_last_result = True

        with pytest.raises(Internal):
            await client.deposit(deposit("r1"), None)


async def test_calls_that_are_slow_hold_up_nobody_else():
    async with busy() as agent:
        agent.script.before = at_once

        assert (await agent.post(deposit("other"))).interrupt.interrupt_id == "of other"
        assert not agent.answer.is_set()
