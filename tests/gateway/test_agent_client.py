import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, suppress

import grpc
import pytest

from gateway.agent_client import DEFAULT_DEADLINE_SECONDS, connect
from gateway.attempts import MAX_ATTEMPTS
from gateway.errors import AgentSilent
from spark.agent.v1.agent_service_pb2 import Deposit, GetInterruptRequest, WatchInterruptRequest
from spark.agent.v1.interrupt_pb2 import Interrupt, Nudge
from tests.gateway.conditions import PATIENCE_SECONDS, until
from tests.gateway.scripted_agent import Context, ScriptedAgent, running

DEPOSIT = Deposit(request_id="r1", interrupt=Interrupt(nudge=Nudge(text="stop")))
GET = GetInterruptRequest(interrupt_id="i1")
WATCH = WatchInterruptRequest(interrupt_id="i1")


async def test_a_deposit_without_a_deadline_gets_one():
    async with running(ScriptedAgent()) as agent, connect(agent.address) as client:
        await client.deposit(DEPOSIT, None)

        assert agent.script.seconds_left == pytest.approx([DEFAULT_DEADLINE_SECONDS], abs=1)


async def test_the_deadline_of_the_caller_is_passed_on():
    async with running(ScriptedAgent()) as agent, connect(agent.address) as client:
        await client.deposit(DEPOSIT, 60)
        await agent.script.states.put(None)
        assert [state async for state in client.watch(WATCH, 50)] == []

        assert agent.script.seconds_left == pytest.approx([60, 50], abs=5)


async def test_a_watch_without_a_deadline_has_none():
    async with running(ScriptedAgent()) as agent, connect(agent.address) as client:
        await agent.script.states.put(None)
        assert [state async for state in client.watch(WATCH, None)] == []

        assert agent.script.seconds_left == [None]


async def test_an_agent_service_that_says_nothing_is_silent_after_the_deadline():
    script, never = ScriptedAgent(), asyncio.Event()
    script.before = lambda _: never.wait()
    async with running(script) as agent, connect(agent.address) as client:
        with pytest.raises(AgentSilent):
            await client.deposit(DEPOSIT, 0.2)


async def test_an_address_where_nobody_listens_is_silent():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        async with connect(f"127.0.0.1:{unused.getsockname()[1]}") as client:
            with pytest.raises(AgentSilent):
                await client.deposit(DEPOSIT, None)


async def test_an_address_that_takes_connections_and_never_speaks_is_silent_after_the_deadline():
    with socket.create_server(("127.0.0.1", 0)) as mute:
        async with connect(f"127.0.0.1:{mute.getsockname()[1]}") as client:
            with pytest.raises(AgentSilent):
                await client.deposit(DEPOSIT, 0.2)


def unavailable_once(calls: list[object]) -> Callable[[Context], Awaitable[None]]:
    async def before(context: Context) -> None:
        if len(calls) == 1:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "restarting")

    return before


@pytest.mark.parametrize("size_bytes", [10, 3_000_000])
async def test_a_deposit_is_repeated_with_its_request_id_when_a_replica_is_unavailable(size_bytes):
    script = ScriptedAgent()
    script.before = unavailable_once(script.calls)
    large = Deposit(request_id="r1", interrupt=Interrupt(nudge=Nudge(text="x" * size_bytes)))
    async with running(script) as agent, connect(agent.address) as client:
        await client.deposit(large, None)

    assert script.calls[0] == script.calls[1]
    assert len(script.calls) == 2


async def test_a_watch_is_opened_again_when_a_replica_is_unavailable_at_its_start():
    script = ScriptedAgent()
    script.before = unavailable_once(script.watched)
    await script.states.put(Interrupt(interrupt_id="i1"))
    await script.states.put(None)
    async with running(script) as agent, connect(agent.address) as client:
        states = [state.interrupt.interrupt_id async for state in client.watch(WATCH, None)]

    assert states == ["i1"]
    assert script.watched == ["i1", "i1"]


async def test_deposits_go_to_all_replicas_in_turn():
    async with (
        running(ScriptedAgent()) as one,
        running(ScriptedAgent()) as two,
        connect(f"ipv4:{one.address},{two.address}") as client,
        asyncio.timeout(10),
    ):
        while not (one.script.calls and two.script.calls):
            await client.deposit(DEPOSIT, None)


async def test_a_replica_that_says_nothing_holds_up_no_deposit():
    silent, heard = ScriptedAgent(), asyncio.Event()
    silent.before = lambda _: heard.wait()
    async with (
        running(silent) as one,
        running(ScriptedAgent()) as two,
        connect(f"ipv4:{one.address},{two.address}", silence_seconds=0.05) as client,
        asyncio.timeout(PATIENCE_SECONDS),
    ):
        while len(silent.calls) < 3:
            result = await client.deposit(DEPOSIT, PATIENCE_SECONDS)
            assert result.interrupt.interrupt_id == "of r1"
        while len(silent.asked) < 3:
            await client.get(GET, PATIENCE_SECONDS)

    assert not heard.is_set()
    assert two.script.calls.count(silent.calls[0]) == len(two.script.calls) > 0


async def test_a_replica_that_says_nothing_holds_up_no_watch():
    silent, speaking, heard = ScriptedAgent(), ScriptedAgent(), asyncio.Event()
    silent.before = lambda _: heard.wait()
    async with (
        running(silent) as one,
        running(speaking) as two,
        connect(f"ipv4:{one.address},{two.address}", silence_seconds=0.05) as client,
        asyncio.timeout(PATIENCE_SECONDS),
    ):
        while len(silent.watched) < 3:
            await speaking.states.put(Interrupt(interrupt_id="i1"))
            async with aclosing(client.watch(WATCH, None)) as states:
                assert (await anext(states)).interrupt.interrupt_id == "i1"
            for script in (silent, speaking):
                await until(lambda script=script: script.watches_ended == len(script.watched))


async def test_a_watch_at_a_replica_that_falls_silent_goes_on_at_another_one_and_repeats_nothing():
    pending, seen = Interrupt(interrupt_id="i1"), Interrupt(interrupt_id="i1", revision=2)
    script = ScriptedAgent()
    # No busy machine keeps an answer for so long, and no other watch is opened beside the second.
    async with (
        running(script) as agent,
        connect(agent.address, silence_seconds=PATIENCE_SECONDS, look_again_seconds=1) as client,
    ):
        await script.states.put(pending)
        states = client.watch(WATCH, PATIENCE_SECONDS)
        assert (await anext(states)).interrupt == pending
        goes_on = asyncio.ensure_future(anext(states))
        await until(lambda: len(script.watched) == 2 and script.watches_ended == 1)
        for state in (pending, seen, None):
            await script.states.put(state)

        assert [(await goes_on).interrupt, *[state async for state in states]] == [seen]


async def test_of_the_watches_that_are_opened_at_a_replica_that_answers_late_one_stays():
    script, heard = ScriptedAgent(), asyncio.Event()
    script.before = lambda _: heard.wait()
    for _ in range(MAX_ATTEMPTS):
        await script.states.put(Interrupt(interrupt_id="i1"))
    async with running(script) as agent, connect(agent.address, silence_seconds=0.01) as client:
        async with aclosing(client.watch(WATCH, None)) as states:
            first = asyncio.ensure_future(anext(states))
            await until(lambda: len(script.watched) == MAX_ATTEMPTS)
            heard.set()
            await first
            await until(lambda: script.watches_ended == MAX_ATTEMPTS - 1)
        await until(lambda: script.watches_ended == MAX_ATTEMPTS)


async def test_a_watcher_that_leaves_at_any_moment_leaves_no_watch_behind():
    script = ScriptedAgent()
    async with running(script) as agent, connect(agent.address) as client:
        for turns_of_the_loop in range(60):
            await script.states.put(Interrupt(interrupt_id="i1"))
            async with aclosing(client.watch(WATCH, None)) as states:
                reading = asyncio.ensure_future(anext(states))
                for _ in range(turns_of_the_loop):
                    await asyncio.sleep(0)
                reading.cancel()
                await asyncio.wait({reading})
        await until(lambda: script.watches_ended == len(script.watched))


async def test_an_answer_that_comes_late_from_the_only_replica_counts():
    script, heard = ScriptedAgent(), asyncio.Event()
    script.before = lambda _: heard.wait()
    async with running(script) as agent, connect(agent.address, silence_seconds=0.01) as client:
        deposit = asyncio.ensure_future(client.deposit(DEPOSIT, PATIENCE_SECONDS))
        await until(lambda: len(script.calls) == MAX_ATTEMPTS)
        heard.set()
        await deposit

    assert script.calls == [script.calls[0]] * MAX_ATTEMPTS


async def test_a_watch_that_loses_its_replica_goes_on_at_another_one_and_repeats_nothing():
    script = ScriptedAgent()
    pending, seen = Interrupt(interrupt_id="i1"), Interrupt(interrupt_id="i1", revision=2)
    for state in (pending, seen, None):
        await script.states.put(state)
    async with AsyncExitStack() as first_life, running(script) as two:
        first = ScriptedAgent()
        one = await first_life.enter_async_context(running(first))
        await two.set_serving(False)
        async with connect(f"ipv4:{one.address},{two.address}") as client:
            await first.states.put(pending)
            states = client.watch(WATCH, PATIENCE_SECONDS)
            assert (await anext(states)).interrupt == pending
            await two.set_serving(True)
            await first_life.aclose()
            assert [state.interrupt async for state in states] == [seen]

    assert (first.watched, script.watched) == (["i1"], ["i1"])


async def test_a_replica_that_is_not_serving_gets_no_deposits():
    async with running(ScriptedAgent()) as one, running(ScriptedAgent()) as two:
        await one.set_serving(False)
        async with connect(f"ipv4:{one.address},{two.address}") as client:
            for _ in range(10):
                await client.deposit(DEPOSIT, None)

    assert one.script.calls == []
    assert len(two.script.calls) == 10


async def test_a_watcher_that_leaves_ends_the_watch_of_the_agent_service():
    async with running(ScriptedAgent()) as agent, connect(agent.address) as client:
        states = client.watch(WATCH, None)
        reading = asyncio.ensure_future(anext(states))
        await until(lambda: agent.script.watched)

        reading.cancel()

        await until(lambda: agent.script.watches_ended)


async def test_the_agent_service_is_reachable_while_a_replica_says_that_it_is_serving():
    async with running(ScriptedAgent()) as agent, connect(agent.address) as client:
        seen: list[bool] = []

        async def follow() -> None:
            async for reachable in client.reachable():
                seen.append(reachable)

        following = asyncio.create_task(follow())
        await until(lambda: seen[-1:] == [True])
        await agent.set_serving(False)
        await until(lambda: seen[-1:] == [False])
        await agent.set_serving(True)
        await until(lambda: seen[-1:] == [True])
        following.cancel()


async def test_an_agent_service_that_comes_back_is_found_again():
    script = ScriptedAgent()
    async with AsyncExitStack() as first_life:
        agent = await first_life.enter_async_context(running(script))
        async with connect(agent.address) as client:
            await client.deposit(DEPOSIT, None)
            await first_life.aclose()
            with pytest.raises(AgentSilent):
                await client.deposit(DEPOSIT, None)

            async with running(script, agent.port), asyncio.timeout(10):
                while len(script.calls) < 2:
                    with suppress(AgentSilent):
                        await client.deposit(DEPOSIT, None)
