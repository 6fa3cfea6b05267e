"""Calls whose worker died are taken up by the next one: answered, or run again where that is safe."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from agent_service.domain import Delivery, JsonObject
from agent_service.loop.agent import ORPHANED
from agent_service.loop.tool_run import CANCELLED, MAX_PARALLEL
from agent_service.model import ToolSpec
from agent_service.tools import Tool, ToolContext, ToolOutcome, Traits
from tests.loop.checks import check_requests
from tests.loop.faults import Point, Step, claim_again, lose_track, store_with
from tests.loop.parked import Parked
from tests.loop.scripted import Killed, ScriptedModel, agent, calls, die, run_and_die, says, take_over
from tests.support import Store
from tests.tools.held import Held

REPEATABLE = Traits(repeatable=True)
STARTED, ANSWERED = Point("transcript", "start_tools", after=True), Point("transcript", "append", after=True)


@dataclass
class Count:
    """A tool that says how often it has been run, and does something before."""

    name: str
    before: Step | None = None
    traits: Traits = REPEATABLE
    runs: int = 0

    @property
    def spec(self) -> ToolSpec:
        return ToolSpec(self.name, "", {"type": "object"})

    async def call(self, arguments: JsonObject, context: ToolContext) -> ToolOutcome:
        self.runs += 1
        if self.before:
            await self.before()
        return ToolOutcome(f"{self.name} {self.runs}")


async def reply(store: Store, *names: str) -> Parked:
    """A session whose model is about to call these tools, and to answer then."""
    return Parked(store, await store.session(), ScriptedModel([calls(*names), says("I see.")]))


async def dies(asked: Parked, tools: Sequence[Tool], point: Point, step: Step = die) -> None:
    """The session is claimed, and its worker dies at this point."""
    replica = await asked.store.replica()
    (claim,) = await asked.store.leases.claim_due(replica, 1)
    with pytest.raises(Killed):
        await agent(store_with(asked.store, point, step), asked.model, tools=tools).run(claim)
    await asked.store.leases.sign_off(replica)


async def goes_on(asked: Parked, tools: Sequence[Tool]) -> None:
    """Another worker takes the session over and comes to the end of the turn."""
    claim = await take_over(asked.store, asked.session_id)
    await agent(asked.store, asked.model, tools=tools).run(claim)
    kinds = await asked.store.kinds(asked.session_id)
    assert kinds.count("turn_started") == kinds.count("turn_ended") == 1
    check_requests(asked.model.sent)


async def test_what_was_answered_before_the_crash_is_not_run_again(store: Store) -> None:
    asked = await reply(store, "held", "unsafe", "safe", "quick")
    held, quick = Held("held", REPEATABLE), Count("quick")
    unsafe, safe = Held("unsafe"), Held("safe", REPEATABLE)

    async def die_when_answered() -> None:
        if await asked.responses():
            raise Killed

    await dies(asked, [held, unsafe, safe, quick], ANSWERED, die_when_answered)
    assert await asked.responses() == [("quick_3", "quick 1")]
    assert held.stopped.is_set()
    tools = [Count("held", runs=1), Count("unsafe", traits=Traits()), Count("safe", runs=1), quick]
    await goes_on(asked, tools)
    assert asked.shown() == [
        ("held_0", "held 2"),
        ("unsafe_1", ORPHANED),
        ("safe_2", "safe 2"),
        ("quick_3", "quick 1"),
    ]
    assert (tools[1].runs, quick.runs) == (0, 1)


async def test_a_rerun_whose_worker_dies_too_is_run_again(store: Store) -> None:
    asked, dig = await reply(store, "dig"), Count("dig", before=die)
    await dies(asked, [dig], STARTED)
    for runs in (1, 2):
        replica, leases = await store.replica(), store.leases
        (claim,) = await leases.claim_from_dead(replica, 1) or await leases.claim_suspects(replica, 1)
        with pytest.raises(Killed):
            await agent(store, asked.model, tools=[dig]).run(claim)
        assert dig.runs == runs
        assert await asked.responses() == []
        await leases.sign_off(replica)

    dig.before = None
    (claim,) = await store.leases.claim_suspects(await store.replica(), 1)
    await agent(store, asked.model, tools=[dig]).run(claim)
    assert asked.shown() == [("dig_0", "dig 3")]
    check_requests(asked.model.sent)


async def test_a_tool_that_is_no_longer_there_is_not_run_again(store: Store) -> None:
    asked = await reply(store, "dig")
    await dies(asked, [Count("dig")], STARTED)
    await goes_on(asked, [])
    assert asked.shown() == [("dig_0", ORPHANED)]


@pytest.mark.parametrize("where", ["posted before the crash", "posted after it"])
async def test_an_immediate_interrupt_lets_nothing_be_run_again_and_nobody_told_that_it_never_ran(
    store: Store, where: str
) -> None:
    asked, dig = await reply(store, "dig", "dig"), Count("dig")

    async def post_and_die() -> None:
        await store.nudge(asked.session_id, "Stop.", delivery=Delivery.IMMEDIATE)
        raise Killed

    await dies(asked, [dig], STARTED, post_and_die if where == "posted before the crash" else die)
    if where == "posted after it":
        await store.nudge(asked.session_id, "Stop.", delivery=Delivery.IMMEDIATE)
    await goes_on(asked, [dig])
    assert dig.runs == 0
    assert asked.shown() == [("dig_0", ORPHANED), ("dig_1", ORPHANED)]
    assert "Stop." in str(asked.model.sent[1][-1]["content"])


async def test_an_immediate_interrupt_during_the_rerun_cancels_what_allows_it(store: Store) -> None:
    names = ["held", *["dig"] * MAX_PARALLEL]
    asked = await reply(store, *names)
    held = Held("held", Traits(repeatable=True, cancellable=True))
    await dies(asked, [held, Count("dig")], STARTED)

    posted = asyncio.Event()

    async def post() -> None:
        if dig.runs == 1:
            await store.nudge(asked.session_id, "Stop.", delivery=Delivery.IMMEDIATE)
            posted.set()
        await posted.wait()

    dig = Count("dig", before=post)
    await goes_on(asked, [held, dig])
    answers = dict(asked.shown())
    assert answers["held_0"] == CANCELLED
    assert answers[f"dig_{MAX_PARALLEL}"] == ORPHANED
    assert dig.runs == MAX_PARALLEL - 1


@pytest.mark.parametrize("after", [False, True])
async def test_a_repair_whose_outcome_is_unknown_is_made_good(store: Store, after: bool) -> None:
    asked = await reply(store, "dig", "now")
    await run_and_die(store_with(store, STARTED, die), asked.session_id, asked.model)
    point = Point("safe_points", "repair", after)
    replica = await lose_track(store, asked.session_id, asked.model, point)
    (claim,) = await claim_again(store, replica)
    await agent(store, asked.model).run(claim)
    dug, now = asked.shown()
    assert (dug, now[0]) == (("dig_0", ORPHANED), "now_1")
    # Answered before the repair, and only once.
    assert len(await asked.responses()) == 2
    assert (await store.kinds(asked.session_id)).count("tool_call_started") == 3
    check_requests(asked.model.sent)
