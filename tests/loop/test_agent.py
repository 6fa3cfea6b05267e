import asyncio
import json

import pytest

from agent_service.domain import (
    DeltaKind,
    InterruptState,
    JsonObject,
    NewSession,
    RoundFailed,
    RoundFailure,
    SessionConfig,
    SessionId,
    SessionMode,
    SessionState,
    Speaker,
    Usage,
)
from agent_service.loop.agent import _pause_seconds
from agent_service.model import Chunk, ModelError, ToolCallPiece
from agent_service.tools import ToolContext, Traits
from tests.loop.checks import check_requests, rows
from tests.loop.scripted import (
    Script,
    ScriptedModel,
    agent,
    calls,
    run_turn,
    says,
)
from tests.support import Store

UNAVAILABLE = ModelError(RoundFailure.MODEL_UNAVAILABLE, "HTTP 503")


async def test_a_turn_is_the_inner_voice_then_rounds_until_no_tool_is_called(store: Store) -> None:
    session_id = await store.session()
    model = ScriptedModel([calls("now", text="Let me see."), says("It is late.")], [says("What time?")])
    await run_turn(store, session_id, model)
    assert await rows(store, session_id) == [
        ("user", "What time?"),
        ("assistant", "Let me see."),
        ("tool_call", "now"),
        ("tool_response", "now"),
        ("assistant", "It is late."),
    ]
    assert await store.kinds(session_id) == [
        "session_changed",
        "turn_started",
        "message_appended",
        "round_started",
        "message_appended",
        "message_appended",
        "tool_call_started",
        "message_appended",
        "round_started",
        "message_appended",
        "turn_ended",
    ]
    check_requests(model.sent)


async def test_an_autonomous_agent_goes_on_with_the_next_turn(store: Store) -> None:
    session_id = await store.session()
    model = ScriptedModel([says("One."), says("Two.")], [says("First."), says("Second.")])
    await run_turn(store, session_id, model)
    await run_turn(store, session_id, model)
    assert [text for kind, text in await rows(store, session_id) if kind == "user"] == ["First.", "Second."]
    check_requests(model.sent)


async def test_the_inner_voice_sees_the_conversation_with_the_roles_swapped(store: Store) -> None:
    session_id = await store.session()
    model = ScriptedModel([calls("now"), says("Late."), says("Two.")], [says("First."), says("Second.")])
    await run_turn(store, session_id, model)
    await store.nudge(session_id, "Look north.")
    await run_turn(store, session_id, model)
    first, second = (request.messages for request in model.voice_requests)
    assert [m["role"] for m in first] == ["system", "user"]
    assert [m["role"] for m in second] == ["system", "user", "assistant", "user", "system"]
    assert second[2]["content"] == "First."
    assert "now" in str(second[3]["content"])
    assert str(second[3]["content"]).endswith("Late.")
    assert "[operator] Look north." in str(second[4]["content"])


@pytest.mark.parametrize("answer", [says(""), says("  \n")])
async def test_an_inner_voice_that_says_nothing_says_continue(store: Store, answer: Script) -> None:
    session_id = await store.session()
    await run_turn(store, session_id, ScriptedModel([says("Yes.")], [answer]))
    assert await rows(store, session_id) == [("user", "Continue."), ("assistant", "Yes.")]


async def test_a_disabled_inner_voice_is_not_asked(store: Store) -> None:
    config = SessionConfig("demo", disable_inner_voice=True)
    created = await store.sessions.create(NewSession("", "Keep the lamp.", config, {}))
    model = ScriptedModel([says("Yes.")])
    await run_turn(store, created.session.session_id, model)
    assert model.voice_requests == []
    assert (await rows(store, created.session.session_id))[0] == ("user", "Continue.")


async def test_a_nudge_between_a_call_and_its_response_is_delivered_after_the_response(store: Store) -> None:
    session_id = await store.session()

    async def nudge() -> None:
        await store.nudge(session_id, "Look north.")

    model = ScriptedModel([[*calls("now"), nudge], says("North it is.")])
    await run_turn(store, session_id, model)
    assert [kind for kind, _ in await rows(store, session_id)] == [
        "user",
        "tool_call",
        "tool_response",
        "system",
        "assistant",
    ]
    kinds = await store.kinds(session_id)
    order = [kinds.index(f"interrupt_{fact}") for fact in ("posted", "delivered", "seen")]
    assert order == sorted(order)
    assert model.sent[1][-1]["role"] == "system"
    assert "[operator] Look north." in str(model.sent[1][-1]["content"])
    check_requests(model.sent)


async def test_seen_is_committed_at_the_first_chunk_before_anything_of_the_answer(store: Store) -> None:
    session_id = await store.session()
    nudge = await store.nudge(session_id)
    states: list[InterruptState] = []

    async def look() -> None:
        states.append((await store.streams.interrupt(nudge.interrupt_id)).state)

    script: Script = [look, Chunk("North"), look, Chunk(" it is.")]
    await run_turn(store, session_id, ScriptedModel([script]))
    assert states == [InterruptState.DELIVERED, InterruptState.SEEN]


async def test_a_request_of_the_inner_voice_does_not_count_as_seeing(store: Store) -> None:
    session_id = await store.session()
    nudge = await store.nudge(session_id)
    states: list[InterruptState] = []

    async def look() -> None:
        states.append((await store.streams.interrupt(nudge.interrupt_id)).state)

    await run_turn(
        store, session_id, ScriptedModel([says("Yes.")], [[Chunk("Look "), look, Chunk("north.")]])
    )
    assert states == [InterruptState.DELIVERED]


async def test_what_says_nothing_of_a_reply_is_not_seeing(store: Store) -> None:
    session_id = await store.session()
    nudge = await store.nudge(session_id)
    keep_alive = Chunk(begun=False)
    model = ScriptedModel([[keep_alive, UNAVAILABLE], says("North it is.")])
    await run_turn(store, session_id, model)
    assert (await store.streams.interrupt(nudge.interrupt_id)).state is InterruptState.DELIVERED
    assert await store.outstanding(session_id) == 1
    await _forget_pause(store, session_id)
    await run_turn(store, session_id, model)
    assert (await store.streams.interrupt(nudge.interrupt_id)).state is InterruptState.SEEN
    assert "[operator]" in str(model.sent[1])
    check_requests(model.sent)


async def test_an_empty_reply_has_not_seen_what_it_was_shown(store: Store) -> None:
    session_id = await store.session()
    nudge = await store.nudge(session_id)
    await run_turn(store, session_id, ScriptedModel([[Chunk(begun=False)]]))
    assert (await store.streams.interrupt(nudge.interrupt_id)).state is InterruptState.DELIVERED
    assert (await store.kinds(session_id))[-1] == "round_failed"


async def test_a_failed_round_is_told_and_tried_again_as_the_same_round(store: Store) -> None:
    session_id = await store.session()
    model = ScriptedModel([[Chunk("It "), UNAVAILABLE], says("It is late.")])
    await run_turn(store, session_id, model)
    failed = (await store.streams.page(session_id, 0, 100))[-1].happening
    assert isinstance(failed, RoundFailed)
    assert (failed.turn, failed.round, failed.attempt) == (1, 1, 1)
    assert (failed.reason, failed.detail) == (RoundFailure.MODEL_UNAVAILABLE, "HTTP 503")
    assert failed.retry_time
    await _forget_pause(store, session_id)
    await run_turn(store, session_id, model)
    assert await rows(store, session_id) == [("user", "Go on."), ("assistant", "It is late.")]
    assert (await store.kinds(session_id)).count("turn_started") == 1
    assert model.sent[0] == model.sent[1]


async def test_a_failed_inner_voice_is_asked_again_with_what_came_meanwhile(store: Store) -> None:
    session_id = await store.session()
    model = ScriptedModel([says("Yes.")], [[UNAVAILABLE], says("First.")])
    await run_turn(store, session_id, model)
    await store.nudge(session_id, "Look north.")
    await _forget_pause(store, session_id)
    await run_turn(store, session_id, model)
    assert [kind for kind, _ in await rows(store, session_id)] == ["system", "user", "assistant"]
    assert (await store.kinds(session_id)).count("turn_started") == 1


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (calls("fly"), "There is no tool 'fly'"),
        (calls("now", arguments="{"), "not JSON"),
        (calls("now", arguments="[]"), "not a JSON object"),
        (calls("now", arguments='{"tz": "Nowhere"}'), "not a time zone"),
    ],
)
async def test_a_call_that_makes_no_sense_is_told_to_the_model(
    store: Store, script: Script, words: str
) -> None:
    session_id = await store.session()
    model = ScriptedModel([script, says("I see.")])
    await run_turn(store, session_id, model)
    assert words in str(model.sent[1][-1]["content"])
    asked = model.sent[1][-2]["tool_calls"]
    assert isinstance(json.loads(asked[0]["function"]["arguments"]), dict)  # type: ignore[index,call-overload]


async def test_reasoning_is_stored_and_sent_back(store: Store) -> None:
    session_id = await store.session()
    model = ScriptedModel([[Chunk(reasoning="Hm. "), Chunk(reasoning="Late?"), *calls("now")], says("Late.")])
    await run_turn(store, session_id, model)
    reply = model.sent[1][-2]
    assert reply["reasoning_content"] == "Hm. Late?"
    assert reply["tool_calls"]


async def test_calls_with_equal_ids_are_told_apart(store: Store) -> None:
    session_id = await store.session()
    twins = [Chunk(tool_calls=(ToolCallPiece(n, "same", "now", "{}"),)) for n in range(2)]
    model = ScriptedModel([twins, says("Late.")])
    await run_turn(store, session_id, model)
    check_requests(model.sent)
    assert [m["role"] for m in model.sent[1][-3:]] == ["assistant", "tool", "tool"]


async def test_usage_adds_up(store: Store) -> None:
    session_id = await store.session()
    await run_turn(store, session_id, ScriptedModel([says("Yes.")]))
    assert (await store.sessions.get(session_id)).usage == Usage(200, 100, 20, 2)


async def test_deltas_are_shown_as_they_come(store: Store) -> None:
    session_id = await store.session()
    with store.wakeups.watch(session_id) as watch:
        await run_turn(store, session_id, ScriptedModel([calls("now", text="Well"), says("Late.")]))
        heard = watch.take_deltas()
    shown = [(d.speaker, d.round, d.kind, d.offset, d.text) for d in heard]
    assert shown == [
        (Speaker.INNER_VOICE, 0, DeltaKind.TEXT, 0, "Go "),
        (Speaker.INNER_VOICE, 0, DeltaKind.TEXT, 3, "on."),
        (Speaker.ASSISTANT, 1, DeltaKind.TEXT, 0, "Well"),
        (Speaker.ASSISTANT, 1, DeltaKind.TOOL_NAME, 0, "now"),
        (Speaker.ASSISTANT, 2, DeltaKind.TEXT, 0, "La"),
        (Speaker.ASSISTANT, 2, DeltaKind.TEXT, 2, "te."),
    ]


# ---- leaving off


async def test_a_stopping_service_leaves_the_turn_open_at_a_safe_point(store: Store) -> None:
    session_id = await store.session()
    stopping = asyncio.Event()

    async def stop() -> None:
        stopping.set()

    before = ScriptedModel([[*calls("now"), stop]])
    await agent(store, before, stopping).run(await store.take(session_id))
    assert "round_failed" not in await store.kinds(session_id)
    model = ScriptedModel([says("Late.")])
    await run_turn(store, session_id, model)
    check_requests([*before.sent, *model.sent])
    assert (await store.kinds(session_id)).count("turn_started") == 1


async def test_a_cancelled_turn_gives_the_session_back(store: Store) -> None:
    session_id = await store.session()
    asked = asyncio.Event()

    async def hang() -> None:
        asked.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(run_turn(store, session_id, ScriptedModel([[Chunk("It "), hang]])))
    await asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await run_turn(store, session_id, ScriptedModel([says("Late.")]))
    assert (await store.kinds(session_id))[-1] == "turn_ended"


async def test_nothing_is_written_after_the_session_ended(store: Store) -> None:
    session_id = await store.session()

    async def end() -> None:
        await store.sessions.end(session_id)

    await run_turn(store, session_id, ScriptedModel([[Chunk("It "), end, Chunk("is late.")]]))
    assert (await store.kinds(session_id))[-1] == "session_changed"
    assert await rows(store, session_id) == [("user", "Go on.")]


async def test_a_paused_session_is_left_at_its_next_safe_point(store: Store) -> None:
    session_id = await store.session()

    async def pause() -> None:
        async with store.database.connection() as connection:
            await connection.execute("UPDATE sessions SET state = 'paused' WHERE session_id = $1", session_id)

    await run_turn(store, session_id, ScriptedModel([[*calls("now"), pause]]))
    reading = await store.sessions.get(session_id)
    assert reading.session.state is SessionState.PAUSED
    assert [kind for kind, _ in await rows(store, session_id)] == ["user", "tool_call", "tool_response"]


async def test_a_session_that_waits_for_interrupts_works_once_for_each_wake(store: Store) -> None:
    session_id = await store.session(SessionMode.ON_INTERRUPT)
    await store.nudge(session_id, "one")
    await store.nudge(session_id, "two")
    model = ScriptedModel([says("Both.")])
    await run_turn(store, session_id, model)
    content = str(model.sent[0])
    assert content.index("one") < content.index("two")
    assert await store.leases.claim_due(await store.replica(), 10) == []


@pytest.mark.parametrize("attempt", [1, 1025, 10**9])
def test_the_pause_after_a_failure_is_bounded(attempt: int) -> None:
    for asked_for in (None, 3.0, 1e300):
        error = ModelError(RoundFailure.MODEL_UNAVAILABLE, "HTTP 503", asked_for)
        assert 0.5 <= _pause_seconds(attempt, error) <= 600


async def test_whatever_goes_wrong_is_told_and_not_tried_again_at_every_poll(store: Store) -> None:
    session_id = await store.session()
    await run_turn(store, session_id, ScriptedModel([[Chunk("It "), KeyError("a mistake in the service")]]))
    failed = (await store.streams.page(session_id, 0, 100))[-1].happening
    assert isinstance(failed, RoundFailed)
    assert (failed.reason, failed.detail) == (RoundFailure.INTERNAL, "the service failed")
    assert await store.leases.claim_due(await store.replica(), 10) == []


async def test_a_session_that_cannot_even_be_read_is_set_aside(store: Store) -> None:
    session_id = await store.session()
    claim = await store.take(session_id)
    async with store.database.connection() as connection:
        await connection.execute("UPDATE sessions SET config = '{}' WHERE session_id = $1", session_id)
    await agent(store, ScriptedModel([])).run(claim)
    assert await store.leases.claim_due(await store.replica(), 10) == []


async def test_a_tool_that_cancels_itself_has_failed_and_the_turn_goes_on(store: Store) -> None:
    session_id = await store.session()
    doomed = agent(store, ScriptedModel([calls("now"), says("I see.")]))

    class Quitter:
        traits = Traits()
        spec = doomed.toolbox.specs(["now"])[0]

        async def call(self, arguments: JsonObject, context: ToolContext) -> None:
            raise asyncio.CancelledError

    doomed.toolbox._tools["now"] = Quitter()  # type: ignore[assignment]
    await doomed.run(await store.take(session_id))
    assert (await store.kinds(session_id))[-1] == "turn_ended"


async def _forget_pause(store: Store, session_id: SessionId) -> None:
    async with store.database.connection() as connection:
        await connection.execute(
            "UPDATE sessions SET not_before = NULL, due_at = now() WHERE session_id = $1", session_id
        )
