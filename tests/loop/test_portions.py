"""Delivery by portions: what waits comes to the model as the window allows, in order, each once."""

import json
from dataclasses import replace

from agent_service.domain import Delivery, InterruptState, RoundFailed, SessionId, SessionMode
from agent_service.loop.interruption import to_its_end
from agent_service.loop.window import BYTES_PER_TOKEN
from agent_service.model import Chunk
from tests.loop.checks import check_requests, rows
from tests.loop.compactions import (
    UNAVAILABLE,
    attempts,
    check_all_requests,
    compactions,
    delivered,
    forget_pause,
    happenings,
    state,
)
from tests.loop.scripted import ScriptedModel, agent, calls, die, run_and_die, run_turn, says, take_over
from tests.support import Store, deposit

# A quarter of it has room for two nudges of these.
WINDOW = 2000
TEXT = "x" * 600


def shown(model: ScriptedModel) -> list[list[str]]:
    """The numbered nudges that each request of the agent has and the one before had not."""
    before, found = "", []
    for messages in model.sent:
        now = str(messages)
        found.append([f"#{n}" for n in range(20) if f"#{n}." in now and f"#{n}." not in before])
        before = now
    return found


async def post(store: Store, session_id: SessionId, count: int, **changes: object) -> None:
    for n in range(count):
        await store.nudge(session_id, f"#{n}. {TEXT}", **changes)


async def test_what_does_not_fit_comes_at_the_next_safe_points_in_order(store: Store) -> None:
    session_id = await store.session()
    await post(store, session_id, 5)
    model = ScriptedModel([calls("now"), calls("now"), calls("now"), says("Done.")], window=WINDOW)
    await run_turn(store, session_id, model)
    assert shown(model) == [["#0", "#1"], ["#2", "#3"], ["#4"], []]
    assert [one.left_waiting for one in await delivered(store, session_id)] == [0, 3, 0, 1, 0]
    told = [str(messages) for messages in model.sent]
    assert "[3 more wait, and come with a later step]" in told[0]
    assert told[2].count("more wait, and come") == 2
    assert await store.outstanding(session_id) == 0
    check_requests(model.sent)


async def test_until_something_is_answered_nothing_is_added(store: Store) -> None:
    """A round that is tried again is no answer, and neither is the inner voice."""
    session_id = await store.session()
    await post(store, session_id, 3)
    model = ScriptedModel([[UNAVAILABLE], calls("now"), says("Done.")], window=WINDOW)
    await run_turn(store, session_id, model)
    await forget_pause(store, session_id)
    await run_turn(store, session_id, model)
    assert shown(model) == [["#0", "#1"], [], ["#2"]]
    assert await attempts(store, session_id) == [(1, 1, 1), (1, 1, 2), (1, 2, 1)]
    check_requests(model.sent)


async def test_a_short_one_is_added_to_those_not_yet_answered(store: Store) -> None:
    session_id = await store.session()
    await post(store, session_id, 1)

    async def more() -> None:
        await store.nudge(session_id, f"#1. {TEXT}")
        await store.nudge(session_id, f"#2. {TEXT}")

    model = ScriptedModel([calls("now"), says("Done.")], [[*says("Go on."), more]], window=WINDOW)
    await run_turn(store, session_id, model)
    assert shown(model) == [["#0", "#1"], ["#2"]]


async def test_one_that_is_too_long_is_cut_for_the_model_and_whole_in_the_transcript(store: Store) -> None:
    session_id = await store.session()
    text = "#0. " + "y" * 16_000
    nudge = await store.nudge(session_id, text)
    await store.nudge(session_id, "#1.")
    before = ScriptedModel([[die]], window=WINDOW)
    await run_and_die(store, session_id, before)
    after = ScriptedModel([calls("now"), says("Done.")], window=20 * WINDOW)
    await agent(store, after).run(await take_over(store, session_id))
    seen = str(before.sent[0][1]["content"])
    assert "[cut here: 16015 bytes, of which 1500 are shown]" in seen
    assert "[1 more wait, and come with a later step]\n</interrupt-" in seen
    assert len(seen) < 1700
    # In the window of the next process it would be whole, if it had not been sent before.
    assert json.dumps(after.sent[0][:3]) == json.dumps(before.sent[0])
    assert (await rows(store, session_id))[0] == ("system", text)
    stored = await store.streams.interrupt(nudge.interrupt_id)
    assert (stored.shown_bytes, stored.left_waiting) == (1500, 1)
    check_requests([*before.sent, *after.sent])


async def test_what_is_left_over_wakes_a_session_that_waits_for_interrupts(store: Store) -> None:
    session_id = await store.session(SessionMode.ON_INTERRUPT)
    await post(store, session_id, 5, delivery=Delivery.NEXT_TURN)
    model = ScriptedModel([says("One."), says("Two."), says("Three.")], window=WINDOW)
    for _ in range(3):
        await run_turn(store, session_id, model)
    assert shown(model) == [["#0", "#1"], ["#2", "#3"], ["#4"]]
    assert await store.leases.claim_due(await store.replica(), 10) == []


async def test_what_is_for_the_next_turn_keeps_nothing_back(store: Store) -> None:
    session_id = await store.session()

    async def later() -> None:
        await store.nudge(session_id, f"#7. {TEXT}", delivery=Delivery.NEXT_TURN)
        await post(store, session_id, 2)

    model = ScriptedModel([[*calls("now"), later], says("Done."), says("Two.")], window=WINDOW)
    await run_turn(store, session_id, model)
    await run_turn(store, session_id, model)
    assert shown(model) == [[], ["#0", "#1"], ["#7"]]
    assert "more wait" not in str(model.sent[1])


async def test_immediate_ones_left_over_cancel_no_further_round(store: Store) -> None:
    """Naive: cancel as long as one waits, and come to no answer in five rounds."""
    session_id = await store.session()

    async def interrupt() -> None:
        # The first of them cancels the request that they are posted from.
        await to_its_end(post(store, session_id, 6, delivery=Delivery.IMMEDIATE))

    model = ScriptedModel(
        [[Chunk("I "), interrupt], calls("now"), calls("now"), says("Done.")], window=WINDOW
    )
    await run_turn(store, session_id, model)
    assert shown(model) == [[], ["#0", "#1"], ["#2", "#3"], ["#4", "#5"]]
    assert len(await happenings(store, session_id, RoundFailed)) == 1
    answers = [message["content"] for message in model.sent[-1] if message["role"] == "tool"]
    assert "skipped" not in str(answers)
    check_requests(model.sent)


async def test_a_model_with_less_room_gets_its_own_portions_from_its_first_turn_on(store: Store) -> None:
    """Naive: deliver at the turn's start what fits the window of the turn before."""
    session_id = await store.session()
    wide = ScriptedModel([says("One.")], window=100 * WINDOW)
    narrow = ScriptedModel([calls("now"), says("Two.")], window=WINDOW)
    both = agent(store, wide)
    asker = replace(both.asker, model=lambda name: {"demo": wide, "narrow": narrow}[name])
    both = replace(both, asker=asker, compactor=replace(both.compactor, asker=asker))
    await both.run(await store.take(session_id))
    await store.sessions.update(
        session_id, lambda session: replace(session, config=replace(session.config, model="narrow"))
    )
    await post(store, session_id, 4)
    await both.run(await store.take(session_id))
    assert shown(narrow) == [["#0", "#1"], ["#2", "#3"]]


async def test_the_expired_make_room(store: Store) -> None:
    session_id = await store.session()
    overdue = await store.overdue(session_id, f"#0. {TEXT}")
    await store.nudge(session_id, f"#1. {TEXT}")
    await store.nudge(session_id, f"#2. {TEXT}")
    model = ScriptedModel([says("Done.")], window=WINDOW)
    await run_turn(store, session_id, model)
    assert shown(model) == [["#1", "#2"]]
    assert await state(store, overdue) is InterruptState.EXPIRED


async def test_a_crowd_of_the_longest_comes_through_in_order_each_once(store: Store) -> None:
    session_id = await store.session()
    posted = [
        (await store.deposits.deposit(deposit(session_id, "z" * 16_000, source=f"service:s{n}"))).interrupt
        for n in range(200)
    ]
    window = 64 * 1024
    model = ScriptedModel([*(calls("now") for _ in range(69)), says("Done.")], window=window)
    model.summaries = [says(f"Day {n}.") for n in range(70)]
    await run_turn(store, session_id, model)
    assert [one.interrupt_id for one in await delivered(store, session_id)] == [
        one.interrupt_id for one in posted
    ]
    assert (await store.kinds(session_id)).count("interrupt_seen") == 200
    assert await store.outstanding(session_id) == 0
    assert len(await compactions(store, session_id)) > 5
    assert all(len(str(messages)) < window * BYTES_PER_TOKEN for messages in model.sent)
    check_all_requests(model)
