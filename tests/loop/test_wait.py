"""The tool `wait`: the agent sleeps, its turn open, until the time is up or something comes."""

import asyncio
import json
from dataclasses import replace
from datetime import timedelta
from itertools import permutations

import pytest

from agent_service.domain import (
    Delivery,
    InterruptChanged,
    InterruptState,
    MessageAppended,
    NewSession,
    Session,
    SessionConfig,
    SessionState,
    ToolResponse,
)
from agent_service.loop.agent import TIME_IS_UP, WOKEN
from agent_service.loop.tool_run import SKIPPED
from agent_service.model import Chunk, ToolCallPiece
from agent_service.store.database import open_database
from agent_service.store.leases import Claim
from tests.loop.checks import check_requests, rows
from tests.loop.faults import Point, store_with
from tests.loop.parked import HOUR, Parked, park
from tests.loop.scripted import Script, ScriptedModel, agent, calls, run_turn, says
from tests.support import Store, open_store, until

ANSWER = says("I see.")


def asks(*calls: tuple[str, object]) -> Script:
    """A reply with a call of each of these tools, `a`, `b` and so on."""
    return [
        Chunk(tool_calls=(ToolCallPiece(n, "abcdef"[n], name, json.dumps(arguments)),))
        for n, (name, arguments) in enumerate(calls)
    ]


async def test_a_wait_gives_the_session_back_with_its_turn_open_until_the_deadline(store: Store) -> None:
    parked = await park(store)
    await parked.assert_waits()
    events = await store.streams.page(parked.session_id, 0, 100)
    asked = await parked.deadline() - events[-1].create_time
    assert asked == timedelta(hours=1)
    assert (await store.kinds(parked.session_id))[-2:] == ["round_started", "message_appended"]
    assert await rows(store, parked.session_id) == [("user", "Go on."), ("tool_call", "wait")]


@pytest.mark.parametrize("delivery", Delivery)
async def test_any_interrupt_ends_the_wait(store: Store, delivery: Delivery) -> None:
    parked = await park(store, ANSWER)
    await store.nudge(parked.session_id, "The lamp is out.", delivery=delivery)
    await parked.run()
    assert parked.shown() == [("wait_0", WOKEN)]
    assert "The lamp is out." in str(parked.model.sent[1][-1]["content"])
    kinds = await store.kinds(parked.session_id)
    assert kinds[-1] == "turn_ended"
    assert kinds.count("turn_started") == kinds.count("interrupt_seen") == 1
    assert "round_failed" not in kinds
    check_requests(parked.model.sent)


async def test_the_call_is_answered_and_all_that_waits_delivered_in_one_transaction(store: Store) -> None:
    parked = await park(store, ANSWER)
    posted = [
        await store.nudge(parked.session_id, delivery.value, delivery=delivery) for delivery in Delivery
    ]
    before = await store.kinds(parked.session_id)
    await parked.run()
    woken = (await store.streams.page(parked.session_id, len(before), 100))[:4]
    assert len({event.create_time for event in woken}) == 1
    answer, *delivered = (event.happening for event in woken)
    assert isinstance(answer, MessageAppended)
    assert isinstance(answer.message.content, ToolResponse)
    assert [one.interrupt.interrupt_id for one in delivered if isinstance(one, InterruptChanged)] == [
        one.interrupt_id for one in posted
    ]
    assert [kind for kind, _ in await rows(store, parked.session_id)] == [
        "user",
        "tool_call",
        "tool_response",
        *["system"] * 3,
        "assistant",
    ]


async def test_a_wait_that_nothing_ends_is_over_at_its_deadline(store: Store) -> None:
    parked = await park(store, ANSWER)
    await parked.let_time_pass()
    await parked.run()
    assert parked.shown() == [("wait_0", TIME_IS_UP)]
    assert (await store.kinds(parked.session_id))[-1] == "turn_ended"
    check_requests(parked.model.sent)


async def test_the_deadline_makes_the_session_due_by_itself(store: Store) -> None:
    parked = await park(store, ANSWER, reply=calls("wait", arguments='{"seconds": 0.05}'))
    replica, claims = await store.replica(), list[Claim]()

    async def due() -> bool:
        claims.extend(await store.leases.claim_due(replica, 1))
        return bool(claims)

    await until(due)
    await agent(store, parked.model).run(claims[0])
    assert parked.shown() == [("wait_0", TIME_IS_UP)]


async def test_an_interrupt_that_comes_with_the_deadline_is_what_woke_it(store: Store) -> None:
    parked = await park(store, ANSWER)
    await store.nudge(parked.session_id)
    await parked.let_time_pass()
    await parked.run()
    assert parked.shown() == [("wait_0", WOKEN)]


async def test_what_has_expired_wakes_nobody(store: Store) -> None:
    parked = await park(store)
    deadline = await parked.deadline()
    late = await store.overdue(parked.session_id)
    await parked.run()
    assert (await store.streams.interrupt(late.interrupt_id)).state is InterruptState.EXPIRED
    assert await parked.responses() == []
    await parked.assert_waits(deadline)


async def test_what_is_cancelled_before_anybody_came_wakes_nobody(store: Store) -> None:
    parked = await park(store)
    nudge = await store.nudge(parked.session_id)
    await store.interrupts.cancel(nudge.interrupt_id)
    await parked.assert_waits()


async def test_what_is_cancelled_while_somebody_comes_wakes_nobody(store: Store) -> None:
    parked = await park(store)
    deadline = await parked.deadline()
    nudge = await store.nudge(parked.session_id)
    claim = await store.take(parked.session_id)
    await store.interrupts.cancel(nudge.interrupt_id)
    await agent(store, parked.model).run(claim)
    assert await parked.responses() == []
    await parked.assert_waits(deadline)


async def test_an_interrupt_between_the_call_and_the_parking_is_not_missed(store: Store) -> None:
    session_id = await store.session()

    async def post() -> None:
        await store.nudge(session_id)

    model = ScriptedModel([calls("wait", arguments=HOUR), ANSWER])
    await run_turn(store_with(store, Point("transcript", "park", after=False), post), session_id, model)
    await run_turn(store, session_id, model)
    assert Parked(store, session_id, model).shown() == [("wait_0", WOKEN)]
    check_requests(model.sent)


# ---- beside other calls


@pytest.mark.parametrize("names", list(permutations(["wait", "now", "note"])))
async def test_other_calls_run_first_and_every_response_is_shown_in_the_order_of_the_calls(
    store: Store, names: tuple[str, ...]
) -> None:
    reply = asks(*((name, {"seconds": 3600, "text": "It is dark."}) for name in names))
    parked = await park(store, ANSWER, reply=reply)
    assert (await store.kinds(parked.session_id)).count("tool_call_started") == 2
    wait = "abc"[names.index("wait")]
    assert {call for call, _ in await parked.responses()} == {"a", "b", "c"} - {wait}
    await parked.assert_waits()

    await store.nudge(parked.session_id)
    await parked.run()
    assert [call for call, _ in parked.shown()] == ["a", "b", "c"]
    assert (await parked.responses())[-1] == (wait, WOKEN)
    check_requests(parked.model.sent)


async def test_an_immediate_interrupt_skips_the_calls_beside_the_wait_and_ends_it(store: Store) -> None:
    session_id = await store.session()

    async def post() -> None:
        await store.nudge(session_id, "Stop.", delivery=Delivery.IMMEDIATE)

    reply = asks(("wait", {"seconds": 3600}), ("now", {}))
    model = ScriptedModel([[*reply, post], ANSWER])
    parked = Parked(store, session_id, model)
    await parked.run()
    await parked.run()
    assert parked.shown() == [("a", WOKEN), ("b", SKIPPED)]
    check_requests(model.sent)


@pytest.mark.parametrize("first", [{"seconds": 3600}, {"seconds": 0}])
async def test_of_several_waits_the_first_valid_one_is_taken(store: Store, first: object) -> None:
    reply = asks(("wait", first), ("wait", {"seconds": 3600}), ("wait", {"seconds": 1}))
    parked = await park(store, ANSWER, reply=reply)
    await parked.assert_waits()
    answers = dict(await parked.responses())
    taken = "a" if first == {"seconds": 3600} else "b"
    assert answers.keys() == {"a", "b", "c"} - {taken}
    assert answers["c"] == "Only one wait at a time."
    await parked.let_time_pass()
    await parked.run()
    assert dict(parked.shown())[taken] == TIME_IS_UP
    check_requests(parked.model.sent)


@pytest.mark.parametrize("arguments", [{}, {"seconds": "60"}, {"seconds": -1}, [60]])
async def test_a_call_that_asks_for_no_valid_time_is_told_so_and_the_turn_goes_on(
    store: Store, arguments: object
) -> None:
    parked = await park(store, ANSWER, reply=asks(("wait", arguments)))
    assert (await store.kinds(parked.session_id))[-1] == "turn_ended"
    ((_, answer),) = await parked.responses()
    assert "seconds must be" in answer or "not a JSON object" in answer


async def test_an_agent_that_is_not_offered_the_tool_does_not_wait(store: Store) -> None:
    config = SessionConfig("demo", tools=("now",))
    session_id = (await store.sessions.create(NewSession("", "Keep it.", config, {}))).session.session_id
    model = ScriptedModel([calls("wait", arguments=HOUR), ANSWER])
    await run_turn(store, session_id, model)
    assert Parked(store, session_id, model).shown() == [("wait_0", "There is no tool 'wait'. Tools: now.")]
    assert (await store.kinds(session_id))[-1] == "turn_ended"


# ---- what else may happen meanwhile


async def test_a_session_that_is_resumed_waits_on_until_the_same_deadline(store: Store) -> None:
    parked = await park(store)
    deadline = await parked.deadline()
    await store.sessions.pause(parked.session_id)
    await store.sessions.resume(parked.session_id)
    await parked.run()
    assert await parked.responses() == []
    await parked.assert_waits(deadline)


async def test_what_comes_while_the_session_is_paused_ends_the_wait_when_it_is_resumed(store: Store) -> None:
    parked = await park(store, ANSWER)
    await store.sessions.pause(parked.session_id)
    nudge = await store.nudge(parked.session_id)
    await parked.let_time_pass()
    assert await store.leases.claim_due(await store.replica(), 10) == []
    await store.sessions.resume(parked.session_id)
    await parked.run()
    assert parked.shown() == [("wait_0", WOKEN)]
    assert (await store.streams.interrupt(nudge.interrupt_id)).state is InterruptState.SEEN


async def test_a_session_paused_while_somebody_comes_keeps_its_wait_and_what_came(store: Store) -> None:
    parked = await park(store, ANSWER)
    nudge = await store.nudge(parked.session_id)
    claim = await store.take(parked.session_id)
    await store.sessions.pause(parked.session_id)
    await agent(store, parked.model).run(claim)
    assert await parked.responses() == []
    assert (await store.streams.interrupt(nudge.interrupt_id)).state is InterruptState.PENDING
    await store.sessions.resume(parked.session_id)
    await parked.run()
    assert parked.shown() == [("wait_0", WOKEN)]


async def test_a_session_paused_before_it_parks_waits_when_it_is_resumed(store: Store) -> None:
    session_id = await store.session()

    async def pause() -> None:
        await store.sessions.pause(session_id)

    parked = Parked(store, session_id, ScriptedModel([[*calls("wait", arguments=HOUR), pause]]))
    await parked.run()
    assert (await store.sessions.get(session_id)).session.state is SessionState.PAUSED
    await store.sessions.resume(session_id)
    await parked.run()
    await parked.assert_waits()


async def test_the_end_answers_the_call_and_nothing_follows(store: Store) -> None:
    parked = await park(store)
    await store.sessions.end(parked.session_id)
    assert await parked.responses() == [("wait_0", "The session ended before the tool did.")]
    assert (await store.kinds(parked.session_id))[-3:] == [
        "message_appended",
        "turn_ended",
        "session_changed",
    ]
    await parked.let_time_pass()
    assert await store.leases.claim_due(await store.replica(), 10) == []


async def test_an_update_wakes_nobody(store: Store) -> None:
    parked = await park(store)
    deadline = await parked.deadline()

    def change(session: Session) -> Session:
        config = replace(session.config, cooldown=timedelta(seconds=1), tools=("now",), max_turns=5)
        return replace(session, goal="Put the lamp out.", config=config)

    await store.sessions.update(parked.session_id, change)
    await parked.assert_waits(deadline)


async def test_a_service_that_stops_leaves_the_wait_to_the_next_one(store: Store) -> None:
    parked = await park(store, ANSWER)
    deadline = await parked.deadline()
    late = await store.overdue(parked.session_id)
    stopping = asyncio.Event()
    stopping.set()
    await agent(store, parked.model, stopping).run(await store.take(parked.session_id))
    assert (await store.streams.interrupt(late.interrupt_id)).state is InterruptState.PENDING
    await parked.run()
    await parked.assert_waits(deadline)


async def test_a_wait_outlives_every_process(database_url: str) -> None:
    async with open_database(database_url) as database, open_store(database) as before:
        parked = await park(before, ANSWER)
        deadline = await parked.deadline()
    async with open_database(database_url) as database, open_store(database) as store:
        parked.store = store
        await parked.assert_waits(deadline)
        await store.nudge(parked.session_id)
        await parked.run()
        assert parked.shown() == [("wait_0", WOKEN)]


async def test_an_agent_may_wait_again_and_again_in_one_turn(store: Store) -> None:
    parked = await park(store, calls("wait", arguments=HOUR), ANSWER)
    first = await parked.deadline()
    await store.nudge(parked.session_id)
    await parked.run()
    reading = await store.sessions.get(parked.session_id)
    assert reading.next_turn_time
    assert reading.next_turn_time > first
    await store.nudge(parked.session_id, "Again.")
    await parked.run()
    assert [content for _, content in parked.shown()] == [WOKEN, WOKEN]
    kinds = await store.kinds(parked.session_id)
    assert (kinds.count("turn_started"), kinds.count("round_started")) == (1, 3)
    check_requests(parked.model.sent)
