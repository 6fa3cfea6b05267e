"""Requests that the server refuses as too long: something has to go, and nothing may spin or be lost."""

from dataclasses import replace

import pytest

from agent_service.domain import Delivery, InterruptState, JsonObject, RoundFailed, RoundFailure
from agent_service.errors import ConfigNotFound
from agent_service.model import ToolSpec
from agent_service.tools import ToolContext, ToolOutcome, Traits
from tests.loop.checks import rows
from tests.loop.compactions import (
    LONG,
    OVERFLOW,
    UNAVAILABLE,
    WINDOW,
    attempts,
    check_all_requests,
    compactions,
    forget_pause,
    happenings,
    notes,
    state,
    works,
)
from tests.loop.scripted import ScriptedModel, agent, calls, run_turn, says
from tests.loop.test_work import hold, toolbox
from tests.support import Store

unknown_or_not = pytest.mark.parametrize("window", [None, 8 * WINDOW], ids=["unknown", "known"])


@unknown_or_not
async def test_a_request_refused_as_too_long_is_made_shorter_in_the_same_round(
    store: Store, window: int | None
) -> None:
    session_id = await store.session()
    model = ScriptedModel(
        [works(), works(), [OVERFLOW], says("Done.")], summaries=[says("Calm.")], window=window
    )
    await run_turn(store, session_id, model)
    assert await attempts(store, session_id) == [(1, 1, 1), (1, 2, 1), (1, 3, 1), (1, 3, 2)]
    (failed,) = await happenings(store, session_id, RoundFailed)
    assert (failed.reason, failed.attempt) == (RoundFailure.CONTEXT_OVERFLOW, 1)
    assert failed.retry_time is None
    kinds = await store.kinds(session_id)
    assert kinds[-6:-1] == ["round_started", "round_failed", "compacted", "round_started", "message_appended"]
    assert [message["role"] for message in model.sent[-1]] == ["system", "user", "assistant", "tool"]
    check_all_requests(model)


@unknown_or_not
async def test_if_that_is_not_enough_the_last_reply_goes_too(store: Store, window: int | None) -> None:
    session_id = await store.session()

    async def nudge() -> None:
        await store.nudge(session_id, "Look north.")

    model = ScriptedModel(
        [notes("The key is red."), [*calls("now", "note"), nudge], [OVERFLOW], [OVERFLOW], says("Done.")],
        summaries=[says("One."), says("Two.")],
        window=window,
    )
    await run_turn(store, session_id, model)
    assert (await attempts(store, session_id))[-1] == (1, 3, 3)
    assert [message["role"] for message in model.sent[-1]] == ["system", "user", "system"]
    assert "One." in str(model.summary_requests[1].messages)
    assert "Look north." not in str(model.summary_requests)
    assert "Look north." in str(model.sent[-1][-1]["content"])
    assert str(model.sent[-1][0]["content"]).endswith("- The key is red.")
    first, second = await compactions(store, session_id)
    assert first.summary.covers_through_position < second.summary.covers_through_position
    assert (await store.kinds(session_id)).count("interrupt_seen") == 1
    check_all_requests(model)


async def test_where_nothing_is_left_that_could_go_the_round_rests_and_goes_on_by_itself(
    store: Store,
) -> None:
    session_id = await store.session()
    nudge = await store.nudge(session_id, "Look north.")
    refused = [[OVERFLOW] for _ in range(4)]
    model = ScriptedModel([*refused, says("North.")])
    for _ in refused:
        await run_turn(store, session_id, model)
        failed = (await happenings(store, session_id, RoundFailed))[-1]
        assert failed.reason is RoundFailure.CONTEXT_OVERFLOW
        assert failed.retry_time
        assert await store.leases.claim_due(await store.replica(), 10) == []
        assert await state(store, nudge) is InterruptState.DELIVERED
        await forget_pause(store, session_id)
    # Somebody gives the server a longer context.
    await run_turn(store, session_id, model)
    assert await state(store, nudge) is InterruptState.SEEN
    assert await attempts(store, session_id) == [(1, 1, n) for n in range(1, 6)]
    assert model.summary_requests == []
    assert all(messages == model.sent[0] for messages in model.sent)


async def test_a_round_gives_up_after_two_compactions(store: Store) -> None:
    session_id = await store.session()
    model = ScriptedModel(
        [works(), works(), *([OVERFLOW] for _ in range(5))], summaries=[says("A."), says("B.")]
    )
    await run_turn(store, session_id, model)
    assert await attempts(store, session_id) == [(1, 1, 1), (1, 2, 1), (1, 3, 1), (1, 3, 2), (1, 3, 3)]
    assert len(await compactions(store, session_id)) == 2
    assert await store.leases.claim_due(await store.replica(), 10) == []
    await forget_pause(store, session_id)
    await run_turn(store, session_id, model)
    assert (await attempts(store, session_id))[5:] == [(1, 3, 4)]
    assert len(model.summary_requests) == 2
    check_all_requests(model)


async def test_the_inner_voice_is_asked_again_with_less(store: Store) -> None:
    session_id = await store.session()
    model = ScriptedModel(
        [works(), says("Done."), says("Two.")],
        [says("First."), [OVERFLOW], [OVERFLOW], says("Second.")],
        summaries=[says("A."), says("B.")],
    )
    await run_turn(store, session_id, model)
    nudge = await store.nudge(session_id, "Look north.")
    await run_turn(store, session_id, model)
    assert (await store.kinds(session_id)).count("turn_started") == 2
    failed = await happenings(store, session_id, RoundFailed)
    assert [(one.turn, one.round, one.attempt) for one in failed] == [(2, 0, 1), (2, 0, 2)]
    words = [text for kind, text in await rows(store, session_id) if kind == "user"]
    assert words == ["First.", "Second."]
    assert [message["role"] for message in model.voice_requests[-1].messages] == ["system", "user", "system"]
    assert "B." in str(model.voice_requests[-1].messages[1])
    assert await state(store, nudge) is InterruptState.SEEN
    check_all_requests(model)


async def test_what_arrives_meanwhile_is_delivered_with_the_shorter_request(store: Store) -> None:
    session_id = await store.session()

    async def post() -> None:
        await store.nudge(session_id, "Stop.", delivery=Delivery.IMMEDIATE)

    model = ScriptedModel([works(), works(), [post, OVERFLOW], says("I stop.")], summaries=[says("Calm.")])
    await run_turn(store, session_id, model)
    assert "Stop." in str(model.sent[-1][-1]["content"])
    assert (await store.kinds(session_id)).count("interrupt_delivered") == 1
    check_all_requests(model)


@pytest.mark.parametrize("failure", [OVERFLOW, UNAVAILABLE], ids=["too long", "unavailable"])
async def test_without_a_summary_too_the_request_becomes_shorter(store: Store, failure: Exception) -> None:
    session_id = await store.session()
    model = ScriptedModel([works(), works(), [OVERFLOW], says("Done.")], summaries=[[failure]] * 9)
    await run_turn(store, session_id, model)
    (compacted,) = await compactions(store, session_id)
    assert compacted.cut
    assert (await store.kinds(session_id))[-1] == "turn_ended"
    check_all_requests(model)


async def test_what_is_refused_again_is_summarised_in_part_and_with_the_summary_before(store: Store) -> None:
    """Naive: show only the newest part, and forget all earlier days."""
    session_id = await store.session()
    script = [*(works(text=f"Step {n}. {LONG}") for n in range(6)), [OVERFLOW], works(), works()]
    model = ScriptedModel(
        [*script, [OVERFLOW], says("Done.")],
        summaries=[[OVERFLOW], [OVERFLOW], says("Day 1."), [OVERFLOW], says("Day 2.")],
    )
    await run_turn(store, session_id, model)
    asked = [str(request.messages) for request in model.summary_requests]
    assert [[f"Step {n}." in one for n in range(6)] for one in asked[:3]] == [
        [True, True, True, True, True, False],
        [False, False, False, True, True, False],
        [False, False, False, False, True, False],
    ]
    assert ["Day 1." in one for one in asked[3:]] == [True, True]
    assert ["is left out" in one for one in asked] == [False, True, True, False, True]
    check_all_requests(model)


async def test_an_answer_of_a_tool_that_fills_the_window_by_itself_is_covered(store: Store) -> None:
    class Flood:
        spec, traits = ToolSpec("flood", "Floods.", {"type": "object"}), Traits()

        async def call(self, arguments: JsonObject, context: ToolContext) -> ToolOutcome:
            return ToolOutcome("water " * 10_000)

    session_id = await store.session()
    model = ScriptedModel([calls("flood"), [OVERFLOW], [OVERFLOW], says("Done.")])
    model.summaries = [says("A."), *([OVERFLOW] for _ in range(9))]
    await agent(store, model, tools=[Flood()]).run(await store.take(session_id))
    assert [one.cut for one in await compactions(store, session_id)] == [False, True]
    assert [message["role"] for message in model.sent[-1]] == ["system", "user"]
    assert (await store.kinds(session_id))[-1] == "turn_ended"


async def test_rounds_are_numbered_on_after_the_last_reply_is_covered(store: Store) -> None:
    session_id = await store.session()
    model = ScriptedModel(
        [calls("now"), [OVERFLOW], [OVERFLOW], calls("now"), says("Done."), says("Two.")],
        summaries=[says("A."), says("B.")],
    )
    await run_turn(store, session_id, model)
    await run_turn(store, session_id, model)
    assert await attempts(store, session_id) == [
        (1, 1, 1),
        (1, 2, 1),
        (1, 2, 2),
        (1, 2, 3),
        (1, 3, 1),
        (2, 1, 1),
    ]
    check_all_requests(model)


async def test_a_refusal_counts_as_no_unclean_end_and_a_compaction_as_no_round(store: Store) -> None:
    session_id = await store.session()
    await store.sessions.update(
        session_id, lambda session: replace(session, config=replace(session.config, max_rounds_per_turn=2))
    )
    model = ScriptedModel([calls("now"), [OVERFLOW], [OVERFLOW], says("Done.")], summaries=[says("A.")] * 2)
    await run_turn(store, session_id, model)
    assert (await store.kinds(session_id))[-1] == "turn_ended"


async def test_a_window_that_cannot_be_asked_for_is_unknown(store: Store) -> None:
    session_id = await store.session()
    model = ScriptedModel([says("Done.")], window=WINDOW)
    await run_turn(store, session_id, model)
    work = await hold(store, await store.claim(session_id), toolbox())
    assert work.terms
    work.session = replace(work.session, config=replace(work.config, inner_voice_model="gone"))

    def named(name: str) -> ScriptedModel:
        if name == "gone":
            raise ConfigNotFound("model", name, ())
        return model

    asker = replace(agent(store, model).asker, model=named)
    assert (await asker.window(work)).tokens is None
