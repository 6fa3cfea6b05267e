"""The request for a summary: what comes of it, what stops it and what does not."""

import asyncio

import pytest

from agent_service.domain import Delivery, InterruptState, RoundFailure, Usage
from agent_service.model import Chunk, ModelError
from tests.loop.compactions import (
    EMPTY,
    FULL,
    LONG,
    OVERFLOW,
    WINDOW,
    check_all_requests,
    compactions,
    forever,
    said,
    state,
    works,
)
from tests.loop.scripted import Script, ScriptedModel, agent, calls, run_turn, says, take_over
from tests.support import Store

# ---- with which words


@pytest.mark.parametrize(
    "script",
    [
        [ModelError(RoundFailure.MODEL_REFUSED, "HTTP 400")],
        [OVERFLOW],
        [Chunk("The be"), ModelError(RoundFailure.BAD_REPLY, "cut short")],
        [Chunk(begun=False)],
        says("  \n"),
        calls("now"),
    ],
    ids=["refused", "too long", "broken off", "empty", "blank", "a call"],
)
async def test_where_no_summary_is_to_be_had_the_rows_are_cut_and_the_model_told(
    store: Store, script: Script
) -> None:
    session_id = await store.session()
    nudge = await store.nudge(session_id)
    model = ScriptedModel([works(EMPTY), works(FULL), says("Done.")], summaries=[script] * 9, window=WINDOW)
    await run_turn(store, session_id, model)
    (compacted,) = await compactions(store, session_id)
    assert compacted.cut
    assert compacted.handled_interrupts == 1
    assert "(No summary could be had of the rest.)" in str(model.sent[2][1]["content"])
    kinds = await store.kinds(session_id)
    assert "round_failed" not in kinds
    assert kinds.count("tool_call_started") == 2
    assert await state(store, nudge) is InterruptState.SEEN
    check_all_requests(model)


async def test_where_no_summary_is_to_be_had_the_one_before_still_holds(store: Store) -> None:
    """Naive: let the rows go, and with them the only words about all that went before."""
    session_id = await store.session()
    nudge = await store.nudge(session_id, source="user:ryan")
    model = ScriptedModel(
        [works(EMPTY), *(works(FULL) for _ in range(6)), says("Done.")],
        summaries=[says("All is calm."), calls("now"), calls("now")],
        window=WINDOW,
    )
    await run_turn(store, session_id, model)
    first, second, third = await compactions(store, session_id)
    assert [first.cut, second.cut, third.cut] == [False, True, True]
    handled = said(first).partition("All is calm.")[2]
    assert f"{nudge.posted.time:%Y-%m-%dT%H:%M:%SZ}" in handled
    assert said(second) == said(first).replace(
        "All is calm.", "All is calm.\n\n(No summary could be had of the rest.)"
    )
    assert said(third) == said(second)


async def test_a_summary_is_asked_of_what_the_server_takes(store: Store) -> None:
    session_id = await store.session()
    model = ScriptedModel(
        [*(works(EMPTY, text=f"Step {n}. {LONG}") for n in range(4)), works(FULL), says("Done.")],
        summaries=[[OVERFLOW], says("Calm.")],
        window=WINDOW,
    )
    await run_turn(store, session_id, model)
    (compacted,) = await compactions(store, session_id)
    whole, newer = (str(request.messages) for request in model.summary_requests)
    assert [f"Step {n}." in whole for n in range(4)] == [True] * 4
    assert [f"Step {n}." in newer for n in range(4)] == [False, False, True, True]
    assert "(A part of what came before is left out.)" in newer
    assert "Calm." in said(compacted)
    check_all_requests(model)


async def test_a_summary_that_is_too_long_is_cut_and_says_so(store: Store) -> None:
    session_id = await store.session()
    model = ScriptedModel(
        [works(EMPTY), works(FULL), says("Done.")], summaries=[says("long " * 1000)], window=WINDOW
    )
    await run_turn(store, session_id, model)
    (compacted,) = await compactions(store, session_id)
    assert "[cut here: 4999 bytes" in said(compacted)
    assert len(said(compacted)) < WINDOW
    assert not compacted.cut


async def test_while_the_server_is_away_the_round_goes_on_without(store: Store) -> None:
    session_id = await store.session()
    model = ScriptedModel([works(EMPTY), works(FULL), works(FULL), says("Done.")], window=WINDOW)
    await run_turn(store, session_id, model)
    assert len(model.summary_requests) == 2
    assert await compactions(store, session_id) == []
    assert (await store.kinds(session_id))[-1] == "turn_ended"
    check_all_requests(model)


async def test_what_a_summary_costs_is_counted(store: Store) -> None:
    session_id = await store.session()
    model = ScriptedModel(
        [works(EMPTY), works(FULL), says("Done.")], summaries=[says("Calm.")], window=WINDOW
    )
    await run_turn(store, session_id, model)
    usage = (await store.sessions.get(session_id)).usage
    # The inner voice, two calls, the summary, and the answer.
    assert usage == Usage(100 + 90 + 1490 + 100 + 100, 150, 10 * 5, 5)


# ---- what stops it and what does not


async def test_an_immediate_nudge_waits_for_the_end_of_a_compaction(store: Store) -> None:
    session_id = await store.session()

    async def post() -> None:
        nudge = await store.nudge(session_id, "Stop.", delivery=Delivery.IMMEDIATE)
        for _ in range(20):
            # Whoever looks for immediate ones has had the time to.
            assert await state(store, nudge) is InterruptState.PENDING

    model = ScriptedModel(
        [works(EMPTY), works(FULL), says("I stop.")],
        summaries=[[Chunk("All is "), post, Chunk("calm.")]],
        window=WINDOW,
    )
    await run_turn(store, session_id, model)
    kinds = await store.kinds(session_id)
    assert "round_failed" not in kinds
    order = ["interrupt_posted", "compacted", "interrupt_delivered", "interrupt_seen"]
    assert [kind for kind in kinds if kind in order] == order
    assert "Stop." in str(model.sent[2][-1]["content"])
    check_all_requests(model)


async def test_the_end_of_the_session_stops_a_compaction_at_once(store: Store) -> None:
    session_id = await store.session()
    closed = asyncio.Event()

    async def end_and_hang() -> None:
        try:
            await store.sessions.end(session_id)
            await forever()
        finally:
            closed.set()

    model = ScriptedModel(
        [works(EMPTY), works(FULL)], summaries=[[Chunk("All "), end_and_hang]], window=WINDOW
    )
    await asyncio.wait_for(run_turn(store, session_id, model), 30)
    assert closed.is_set()
    kinds = await store.kinds(session_id)
    assert "compacted" not in kinds
    assert kinds[-1] == "session_changed"


async def test_a_lost_lease_stops_a_compaction_and_the_next_holder_makes_it(store: Store) -> None:
    session_id = await store.session()
    closed, replica = asyncio.Event(), await store.replica()
    (claim,) = await store.leases.claim_due(replica, 1)
    taken = []

    async def lose_and_hang() -> None:
        await store.leases.sign_off(replica)
        taken.append(await take_over(store, session_id))
        try:
            await forever()
        finally:
            closed.set()

    model = ScriptedModel(
        [works(EMPTY), works(FULL), says("Done.")],
        summaries=[[Chunk("All "), lose_and_hang], says("Calm.")],
        window=WINDOW,
    )
    await asyncio.wait_for(agent(store, model).run(claim), 30)
    assert closed.is_set()
    await agent(store, model).run(taken[0])
    assert len(await compactions(store, session_id)) == 1
    assert model.summary_requests[0] == model.summary_requests[1]
    check_all_requests(model)


async def test_a_service_that_stops_gives_the_session_back_in_the_middle_of_a_summary(store: Store) -> None:
    session_id = await store.session()
    asked = asyncio.Event()

    async def hang() -> None:
        asked.set()
        await forever()

    model = ScriptedModel([works(EMPTY), works(FULL)], summaries=[[Chunk("All "), hang]], window=WINDOW)
    task = asyncio.create_task(run_turn(store, session_id, model))
    await asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    model.agent, model.summaries = [says("Done.")], [says("Calm.")]
    await run_turn(store, session_id, model)
    assert len(await compactions(store, session_id)) == 1
    check_all_requests(model)
