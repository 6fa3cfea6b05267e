"""Limits pause a session at a safe point, before anything is delivered there, until somebody resumes it."""

import asyncio
from dataclasses import replace

import pytest

from agent_service.domain import (
    Activity,
    Delivery,
    Interrupt,
    InterruptState,
    NewSession,
    RoundFailure,
    Session,
    SessionChanged,
    SessionConfig,
    SessionId,
    SessionMode,
    SessionState,
    Usage,
)
from agent_service.loop.agent import WOKEN
from agent_service.model import Chunk, ModelError
from tests.loop.checks import check_requests, rows
from tests.loop.faults import Point, claim_again, forget_pause, lose_track, store_with
from tests.loop.parked import HOUR, Parked
from tests.loop.scripted import (
    Script,
    ScriptedModel,
    agent,
    calls,
    die,
    run_and_die,
    run_turn,
    says,
    take_over,
)
from tests.support import Store

# What one reply of `says` costs.
TOKENS = 110


async def limited(store: Store, **limits: object) -> SessionId:
    config = replace(SessionConfig("demo"), **limits)  # type: ignore[arg-type]
    return (await store.sessions.create(NewSession("", "Keep the lamp.", config, {}))).session.session_id


async def set_limits(store: Store, session_id: SessionId, **limits: object) -> None:
    def change(session: Session) -> Session:
        return replace(session, config=replace(session.config, **limits))  # type: ignore[arg-type]

    await store.sessions.update(session_id, change)


async def assert_paused(store: Store, session_id: SessionId, limit: str) -> None:
    """That the session is paused for this limit, visibly, and that nothing but a resume sets it to work."""
    reading = await store.sessions.get(session_id)
    assert (reading.session.state, reading.activity) == (SessionState.PAUSED, Activity.STOPPED)
    assert reading.session.state_reason == f"limit reached: {limit}"
    happenings = [event.happening for event in await store.streams.page(session_id, 0, 1000)]
    told = [one.session for one in happenings if isinstance(one, SessionChanged)][-1]
    assert (told.state, told.state_reason) == (SessionState.PAUSED, reading.session.state_reason)
    replica = await store.replica()
    assert await claim_again(store, replica) == []
    assert await store.leases.claim_suspects(replica, 10) == []


async def assert_state(store: Store, interrupt: Interrupt, state: InterruptState) -> None:
    assert (await store.streams.interrupt(interrupt.interrupt_id)).state is state


# Each limit, and after what it is reached.
LIMITS = [
    ("max_turns", 1, "append_answer"),
    ("max_rounds_per_turn", 1, "append_reply"),
    ("token_budget", TOKENS, "append"),
]


@pytest.mark.parametrize("delivery", Delivery)
@pytest.mark.parametrize(("name", "limit", "method"), LIMITS)
async def test_what_is_due_at_a_limit_stays_pending_and_is_delivered_after_the_resume(
    store: Store, name: str, limit: int, method: str, delivery: Delivery
) -> None:
    session_id = await limited(store, **{name: limit})

    async def post() -> None:
        await store.nudge(session_id, delivery=delivery)

    posting = store_with(store, Point("transcript", method, after=True), post)
    model = ScriptedModel([says("Done.") if name == "max_turns" else calls("now")])
    await run_turn(posting, session_id, model)
    if name == "max_turns":
        await run_turn(store, session_id, model)
    await assert_paused(store, session_id, f"{name}, {limit}")
    assert "interrupt_delivered" not in await store.kinds(session_id)

    await set_limits(store, session_id, **{name: 0})
    await store.sessions.resume(session_id)
    model.agent = [says("North it is."), says("North it is.")]
    while await store.outstanding(session_id):
        await run_turn(store, session_id, model)
    kinds = await store.kinds(session_id)
    assert kinds.count("interrupt_delivered") == kinds.count("interrupt_seen") == 1
    check_requests(model.sent)


@pytest.mark.parametrize("delivery", Delivery)
async def test_what_comes_at_a_limit_waits_for_the_resume(store: Store, delivery: Delivery) -> None:
    session_id = await limited(store, max_rounds_per_turn=1)
    model = ScriptedModel([calls("now"), says("I see."), says("I see.")])
    await run_turn(store, session_id, model)
    await store.nudge(session_id, delivery=delivery)
    kinds = await store.kinds(session_id)
    await assert_paused(store, session_id, "max_rounds_per_turn, 1")
    assert await store.kinds(session_id) == kinds
    await store.sessions.resume(session_id)
    while await store.outstanding(session_id):
        await run_turn(store, session_id, model)
    assert (await store.kinds(session_id)).count("interrupt_seen") == 1
    check_requests(model.sent)


async def test_no_limit_is_none(store: Store) -> None:
    session_id = await limited(store, max_turns=0, max_rounds_per_turn=0, token_budget=0)
    model = ScriptedModel([*[[*says("On."), *calls("now")]] * 5, says("Done."), says("Done.")])
    await run_turn(store, session_id, model)
    await run_turn(store, session_id, model)
    assert (await store.kinds(session_id)).count("turn_ended") == 2


# ---- rounds


async def test_a_resume_grants_as_many_rounds_again(store: Store) -> None:
    session_id = await limited(store, max_rounds_per_turn=2)
    model = ScriptedModel([calls("now")] * 9)
    for rounds in (2, 4, 6):
        await run_turn(store, session_id, model)
        await assert_paused(store, session_id, "max_rounds_per_turn, 2")
        assert len(model.sent) == rounds
        await store.sessions.resume(session_id)
    assert (await store.kinds(session_id)).count("turn_started") == 1
    check_requests(model.sent)


async def test_every_turn_has_all_its_rounds_whatever_was_granted_in_the_turn_before(store: Store) -> None:
    session_id = await limited(store, max_rounds_per_turn=2)
    model = ScriptedModel([calls("now"), calls("now"), says("Done."), calls("now"), calls("now")])
    await run_turn(store, session_id, model)
    await store.sessions.resume(session_id)
    await run_turn(store, session_id, model)
    await run_turn(store, session_id, model)
    await assert_paused(store, session_id, "max_rounds_per_turn, 2")
    assert len(model.sent) == 5


async def test_attempts_at_a_round_are_one_round(store: Store) -> None:
    session_id = await limited(store, max_rounds_per_turn=1)
    failure = ModelError(RoundFailure.MODEL_UNAVAILABLE, "HTTP 503")

    async def post_and_hang() -> None:
        await store.nudge(session_id, "Stop.", delivery=Delivery.IMMEDIATE)
        await asyncio.Event().wait()

    model = ScriptedModel([[failure], [Chunk("It "), die], [Chunk("It "), post_and_hang], says("It is.")])
    await run_turn(store, session_id, model)
    await forget_pause(store, session_id)
    await run_and_die(store, session_id, model)
    await agent(store, model).run(await take_over(store, session_id))
    assert len(model.sent) == 4
    assert (await store.kinds(session_id))[-1] == "turn_ended"


async def test_a_limit_lowered_in_mid_turn_counts_from_the_next_safe_point(store: Store) -> None:
    session_id = await limited(store)

    async def lower() -> None:
        await set_limits(store, session_id, max_rounds_per_turn=2)

    model = ScriptedModel([calls("now"), calls("now"), [*calls("now"), lower], calls("now")])
    await run_turn(store, session_id, model)
    await assert_paused(store, session_id, "max_rounds_per_turn, 2")
    assert len(model.sent) == 3


async def test_a_limit_raised_in_mid_turn_counts_from_the_next_safe_point(store: Store) -> None:
    session_id = await limited(store, max_rounds_per_turn=1)

    async def lift() -> None:
        await set_limits(store, session_id, max_rounds_per_turn=0)

    model = ScriptedModel([[*calls("now"), lift], calls("now"), says("Done.")])
    await run_turn(store, session_id, model)
    assert (await store.kinds(session_id))[-1] == "turn_ended"


async def test_a_limit_lifted_while_paused_counts_with_the_resume_and_not_before(store: Store) -> None:
    session_id = await limited(store, max_rounds_per_turn=1)
    model = ScriptedModel([calls("now"), calls("now"), says("Done.")])
    await run_turn(store, session_id, model)
    await set_limits(store, session_id, max_rounds_per_turn=0)
    await assert_paused(store, session_id, "max_rounds_per_turn, 1")
    await store.sessions.resume(session_id)
    await run_turn(store, session_id, model)
    assert (await store.kinds(session_id))[-1] == "turn_ended"


async def test_a_wait_at_the_limit_of_rounds_goes_on_and_what_would_end_it_stays_pending(
    store: Store,
) -> None:
    session_id = await limited(store, max_rounds_per_turn=1)
    parked = Parked(store, session_id, ScriptedModel([calls("wait", arguments=HOUR), says("I see.")]))
    await parked.run()
    await parked.assert_waits()
    nudge = await store.nudge(session_id)
    await parked.run()
    await assert_paused(store, session_id, "max_rounds_per_turn, 1")
    await assert_state(store, nudge, InterruptState.PENDING)
    assert await parked.responses() == []

    await store.sessions.resume(session_id)
    await parked.run()
    assert parked.shown() == [("wait_0", WOKEN)]
    await assert_state(store, nudge, InterruptState.SEEN)
    check_requests(parked.model.sent)


async def test_a_wait_is_a_round_and_its_end_begins_another(store: Store) -> None:
    session_id = await limited(store, max_rounds_per_turn=2)
    parked = Parked(store, session_id, ScriptedModel([calls("wait", arguments=HOUR), calls("now")]))
    await parked.run()
    await parked.let_time_pass()
    await parked.run()
    await assert_paused(store, session_id, "max_rounds_per_turn, 2")


# ---- turns


async def test_a_resume_grants_no_turns_and_an_update_does(store: Store) -> None:
    session_id = await limited(store, max_turns=1)
    model = ScriptedModel([says("One."), says("Two.")])
    await run_turn(store, session_id, model)
    for _ in range(2):
        await run_turn(store, session_id, model)
        await assert_paused(store, session_id, "max_turns, 1")
        await store.sessions.resume(session_id)
    await set_limits(store, session_id, max_turns=2)
    await run_turn(store, session_id, model)
    assert [kind for kind, _ in await rows(store, session_id)] == ["user", "assistant"] * 2


async def test_the_last_turn_goes_on_to_its_end(store: Store) -> None:
    session_id = await limited(store, max_turns=1)
    model = ScriptedModel([calls("now"), calls("wait", arguments=HOUR), says("Done.")])
    parked = Parked(store, session_id, model)
    await parked.run()
    await store.nudge(session_id)
    await parked.run()
    assert (await store.kinds(session_id))[-1] == "turn_ended"


async def test_a_session_without_turns_of_its_own_is_paused_when_a_turn_is_due(store: Store) -> None:
    session_id = await limited(store, max_turns=1, mode=SessionMode.ON_INTERRUPT)
    await store.nudge(session_id)
    model = ScriptedModel([says("One.")])
    await run_turn(store, session_id, model)
    assert (await store.sessions.get(session_id)).activity is Activity.IDLE

    await store.overdue(session_id)
    await run_turn(store, session_id, model)
    assert (await store.sessions.get(session_id)).activity is Activity.IDLE

    nudge = await store.nudge(session_id)
    await run_turn(store, session_id, model)
    await assert_paused(store, session_id, "max_turns, 1")
    await assert_state(store, nudge, InterruptState.PENDING)


# ---- tokens


async def test_the_words_of_the_inner_voice_cost_tokens_too(store: Store) -> None:
    session_id = await limited(store, token_budget=TOKENS)
    model = ScriptedModel([says("Done.")])
    await run_turn(store, session_id, model)
    await assert_paused(store, session_id, f"token_budget, {TOKENS}")
    assert await rows(store, session_id) == [("user", "Go on.")]
    assert model.sent == []


async def test_a_resume_grants_as_many_tokens_again(store: Store) -> None:
    session_id = await limited(store, token_budget=2 * TOKENS)
    model = ScriptedModel([says("Done.")] * 9)
    for turns in (1, 2, 3):
        await run_turn(store, session_id, model)
        await run_turn(store, session_id, model)
        await assert_paused(store, session_id, f"token_budget, {2 * TOKENS}")
        assert (await store.kinds(session_id)).count("turn_ended") == turns
        await store.sessions.resume(session_id)


async def test_tokens_used_before_there_was_a_budget_count(store: Store) -> None:
    session_id = await limited(store)
    model = ScriptedModel([says("Done."), says("Done.")])
    await run_turn(store, session_id, model)
    await set_limits(store, session_id, token_budget=TOKENS)
    await run_turn(store, session_id, model)
    await assert_paused(store, session_id, f"token_budget, {TOKENS}")
    assert (await store.kinds(session_id)).count("turn_started") == 1


@pytest.mark.parametrize("speaker", ["voice", "agent"])
async def test_a_cancelled_request_costs_tokens_and_what_cancelled_it_stays_pending(
    store: Store, speaker: str
) -> None:
    session_id = await limited(store, token_budget=2 * TOKENS)

    async def post_and_hang() -> None:
        await store.nudge(session_id, "Stop.", delivery=Delivery.IMMEDIATE)
        await asyncio.Event().wait()

    cancelled: Script = [Chunk("word " * 3 * TOKENS), post_and_hang]
    model = ScriptedModel([says("I stop.")])
    script = model.voice if speaker == "voice" else model.agent
    script.insert(0, cancelled)
    await run_turn(store, session_id, model)
    await assert_paused(store, session_id, f"token_budget, {2 * TOKENS}")
    assert "interrupt_delivered" not in await store.kinds(session_id)

    await set_limits(store, session_id, token_budget=100 * TOKENS)
    await store.sessions.resume(session_id)
    await run_turn(store, session_id, model)
    assert await store.outstanding(session_id) == 0
    check_requests(model.sent)


# ---- when a commit is lost


@pytest.mark.parametrize("after", [False, True])
async def test_a_pause_whose_outcome_is_unknown_is_made_good(store: Store, after: bool) -> None:
    session_id = await limited(store, max_turns=1)
    model = ScriptedModel([says("One.")])
    await run_turn(store, session_id, model)
    replica = await lose_track(store, session_id, model, Point("safe_points", "begin_turn", after))
    for claim in await claim_again(store, replica):
        await agent(store, model).run(claim)
    await assert_paused(store, session_id, "max_turns, 1")
    assert (await store.kinds(session_id)).count("session_changed") == 2


CUT_SHORT = ModelError(RoundFailure.BAD_REPLY, "the model server cut the reply short")
REFUSED = ModelError(RoundFailure.MODEL_UNAVAILABLE, "HTTP 503", status=503)


async def test_a_reply_that_comes_to_nothing_counts_as_its_server_counted_it(store: Store) -> None:
    session_id = await limited(store, disable_inner_voice=True, token_budget=900)
    counted = Chunk(usage=Usage(input_tokens=400, output_tokens=50), begun=False)
    model = ScriptedModel([[Chunk("We"), counted, CUT_SHORT] for _ in range(3)])
    for _ in range(3):
        await forget_pause(store, session_id)
        await run_turn(store, session_id, model)
    assert len(model.requests) == 2
    usage = (await store.sessions.get(session_id)).usage
    assert (usage.input_tokens, usage.output_tokens, usage.model_requests) == (800, 100, 2)
    await assert_paused(store, session_id, "token_budget, 900")


async def test_a_reply_that_comes_to_nothing_is_charged_by_estimate_where_nobody_counts(store: Store) -> None:
    session_id = await limited(store, disable_inner_voice=True)
    await run_turn(store, session_id, ScriptedModel([[Chunk("We " * 100), CUT_SHORT]]))
    usage = (await store.sessions.get(session_id)).usage
    assert (usage.output_tokens, usage.model_requests) == (101, 1)
    assert usage.input_tokens > 100


async def test_what_is_refused_before_a_reply_has_begun_costs_no_tokens(store: Store) -> None:
    session_id = await limited(store, disable_inner_voice=True)
    await run_turn(store, session_id, ScriptedModel([[REFUSED]]))
    assert (await store.sessions.get(session_id)).usage == Usage(model_requests=1)
