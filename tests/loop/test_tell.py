"""Agents that nudge each other, in the hands of the loop."""

import json
from collections.abc import AsyncGenerator

import pytest

from agent_service.domain import (
    Activity,
    Interrupt,
    MessageAppended,
    NewSession,
    SessionConfig,
    SessionId,
    SessionMode,
    ToolResponse,
)
from agent_service.model import INNER_VOICE_MARK, Chunk, Request
from agent_service.store.peers import Peers
from agent_service.tools.tell import MAX_HOPS, Tell
from tests.loop.checks import check_requests
from tests.loop.faults import Point, store_with
from tests.loop.scripted import Killed, ScriptedModel, TakesSystemMessages, agent, calls, says, take_over
from tests.loop.test_dispatcher import dispatching
from tests.support import LIMITS, Store, until

PONG = "Answer ping."


class Answers(TakesSystemMessages):
    """A model that answers whatever it is told by telling the other of two sessions something."""

    async def context_window(self) -> int | None:
        return None

    async def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        if INNER_VOICE_MARK in str(request.messages[0]["content"]):
            script = says("Go on.")
        elif request.messages[-1]["role"] == "tool":
            script = says("Told.")
        else:
            other = "ping" if PONG in str(request.messages[0]["content"]) else "pong"
            script = calls("tell", arguments=arguments(other))
        for piece in script:
            assert isinstance(piece, Chunk)
            yield piece


def arguments(to: str) -> str:
    return json.dumps({"session": to, "text": "And you?"})


def tell(store: Store) -> Tell:
    return Tell(Peers(store.database), store.deposits, LIMITS.max_text_bytes)


async def session(store: Store, name: str, goal: str = "Keep the lamp.") -> SessionId:
    config = SessionConfig("demo", tools=("tell",), mode=SessionMode.ON_INTERRUPT)
    new = NewSession(name, goal, config, {"team": "north"})
    return (await store.sessions.create(new)).session.session_id


async def inbox(store: Store, session_id: SessionId) -> list[Interrupt]:
    return await store.interrupts.page(session_id, 0, 100, ())


async def answers(store: Store, session_id: SessionId) -> list[str]:
    """What the calls of the session brought, in order."""
    happenings = [event.happening for event in await store.streams.page(session_id, 0, 1000)]
    contents = [one.message.content for one in happenings if isinstance(one, MessageAppended)]
    return [content.content for content in contents if isinstance(content, ToolResponse)]


async def test_two_agents_that_answer_each_other_stop_at_the_hop_limit_and_say_so(store: Store) -> None:
    ping, pong = await session(store, "ping"), await session(store, "pong", PONG)
    both = agent(store, Answers(), tools=[tell(store)])

    async def refused() -> int:
        """How often an agent was told of the limit, when nothing goes on any more; before that: -1."""
        readings = [await store.sessions.get(one) for one in (ping, pong)]
        if any(reading.activity is not Activity.IDLE or reading.outstanding for reading in readings):
            return -1
        said = [*await answers(store, ping), *await answers(store, pong)]
        return sum("hop limit" in answer for answer in said)

    async def stopped() -> bool:
        return await refused() == conversations

    async with dispatching(store, both.run):
        for conversations in (1, 2):
            await store.nudge(ping, "Ask the other one.")
            await until(stopped)
            nudges = [*await inbox(store, ping), *await inbox(store, pong)]
            by_agents = [nudge for nudge in nudges if nudge.source.startswith("agent:")]
            # What comes from outside begins a conversation of its own.
            assert len(by_agents) == conversations * MAX_HOPS
            assert len(await answers(store, ping)) == conversations * (MAX_HOPS / 2 + 1)


async def test_an_agent_is_woken_by_another_and_sees_who_spoke(store: Store) -> None:
    keeper, lookout = await session(store, "keeper"), await session(store, "lookout")
    await store.nudge(keeper, "Ask the lookout.")
    model = ScriptedModel([calls("tell", arguments=arguments("lookout")), says("I asked.")])
    await agent(store, model, tools=[tell(store)]).run(await store.take(keeper))
    assert await answers(store, keeper) == [f"Told session {lookout}. The message is pending."]

    other = ScriptedModel([says("I look.")])
    await agent(store, other, tools=[tell(store)]).run(await store.take(lookout))
    assert f"[agent:{keeper}] And you?" in str(other.sent[0])
    (nudge,) = await inbox(store, lookout)
    assert nudge.seen
    check_requests(model.sent)


async def test_a_worker_that_dies_after_it_told_does_not_tell_twice(store: Store) -> None:
    keeper, lookout = await session(store, "keeper"), await session(store, "lookout")
    await store.nudge(keeper, "Ask the lookout.")
    model = ScriptedModel([calls("tell", arguments=arguments("lookout")), says("I asked.")])

    async def die_when_told() -> None:
        if await inbox(store, lookout):
            raise Killed

    replica = await store.replica()
    (claim,) = await store.leases.claim_due(replica, 1)
    dying = store_with(store, Point("transcript", "append", after=False), die_when_told)
    with pytest.raises(Killed):
        await agent(dying, model, tools=[tell(store)]).run(claim)
    assert await answers(store, keeper) == []
    await store.leases.sign_off(replica)

    await agent(store, model, tools=[tell(store)]).run(await take_over(store, keeper))
    assert await answers(store, keeper) == [f"Told session {lookout}. The message is pending."]
    assert len(await inbox(store, lookout)) == 1
    check_requests(model.sent)
