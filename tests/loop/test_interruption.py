"""Interrupts with immediate delivery: they cancel what is in flight, and nothing else is lost."""

import asyncio
from dataclasses import dataclass
from typing import NamedTuple

import pytest

from agent_service.domain import Delivery, InterruptState, JsonObject, RoundFailed, RoundFailure, SessionId
from agent_service.loop.tool_run import MAX_PARALLEL, SKIPPED
from agent_service.model import Chunk, ModelError
from agent_service.tools import ToolContext, ToolOutcome, Traits
from tests.loop.checks import check_requests, rows
from tests.loop.faults import Point, forget_pause, store_with
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
from tests.support import Store, until

UNAVAILABLE = ModelError(RoundFailure.MODEL_UNAVAILABLE, "HTTP 503")


async def forever() -> None:
    await asyncio.Event().wait()


async def test_an_immediate_nudge_cancels_the_stream_and_is_delivered_in_the_same_round(store: Store) -> None:
    session_id = await store.session()
    closed = asyncio.Event()

    async def post_and_hang() -> None:
        await store.nudge(session_id, "Stop.", delivery=Delivery.IMMEDIATE)
        try:
            await forever()
        finally:
            closed.set()

    model = ScriptedModel([[Chunk("It was "), post_and_hang], says("I stop.")])
    await run_turn(store, session_id, model)
    assert closed.is_set()
    assert [kind for kind, _ in await rows(store, session_id)] == ["user", "system", "assistant"]
    happenings = [event.happening for event in await store.streams.page(session_id, 0, 100)]
    (failed,) = (happening for happening in happenings if isinstance(happening, RoundFailed))
    assert (failed.round, failed.attempt, failed.reason) == (1, 1, RoundFailure.INTERRUPTED)
    kinds = await store.kinds(session_id)
    assert kinds[-7:] == [
        "interrupt_posted",
        "round_failed",
        "interrupt_delivered",
        "round_started",
        "interrupt_seen",
        "message_appended",
        "turn_ended",
    ]
    check_requests(model.sent)
    usage = (await store.sessions.get(session_id)).usage
    assert usage.model_requests == 3


async def test_a_round_is_cancelled_at_most_once(store: Store) -> None:
    session_id = await store.session()

    async def post() -> None:
        await store.nudge(session_id, "Stop.", delivery=Delivery.IMMEDIATE)

    async def post_and_hang() -> None:
        await post()
        await forever()

    model = ScriptedModel([[Chunk("a"), post_and_hang], [Chunk("b"), post, *calls("now")], says("Both.")])
    await run_turn(store, session_id, model)
    kinds = await store.kinds(session_id)
    assert kinds.count("round_failed") == 1
    assert kinds.count("interrupt_delivered") == kinds.count("interrupt_seen") == 2
    # The second one waited for the next safe point, and the call before it was not started.
    assert model.sent[2][-2]["content"] == SKIPPED
    check_requests(model.sent)


async def test_the_inner_voice_is_cancelled_and_asked_again(store: Store) -> None:
    session_id = await store.session()

    async def post_and_hang() -> None:
        await store.nudge(session_id, "Look north.", delivery=Delivery.IMMEDIATE)
        await forever()

    model = ScriptedModel([says("North it is.")], [[Chunk("Go "), post_and_hang], says("Look north, then.")])
    await run_turn(store, session_id, model)
    assert [kind for kind, _ in await rows(store, session_id)] == ["system", "user", "assistant"]
    assert "Look north." in str(model.voice_requests[1].messages[-1])
    assert (await store.kinds(session_id)).count("turn_started") == 1


async def test_calls_that_were_not_started_are_skipped_in_pairs(store: Store) -> None:
    session_id = await store.session()
    names = ["note", *["now"] * MAX_PARALLEL]
    model = ScriptedModel([calls(*names, arguments='{"text": "x"}'), says("I stop.")])
    interrupted = agent(store, model)

    class Posting:
        traits = Traits()
        spec = interrupted.toolbox.specs(["note"])[0]

        async def call(self, arguments: JsonObject, context: ToolContext) -> ToolOutcome:
            await store.nudge(session_id, "Stop.", delivery=Delivery.IMMEDIATE)
            return ToolOutcome("Noted.")

    interrupted.toolbox._tools["note"] = Posting()
    await interrupted.run(await store.take(session_id))
    answers = [message["content"] for message in model.sent[1] if message["role"] == "tool"]
    assert (answers[0], answers[-1]) == ("Noted.", SKIPPED)
    assert (await store.kinds(session_id)).count("tool_call_started") == MAX_PARALLEL
    check_requests(model.sent)


async def test_other_deliveries_cancel_nothing(store: Store) -> None:
    session_id = await store.session()

    async def post() -> None:
        for delivery in (Delivery.NEXT_ROUND, Delivery.NEXT_TURN):
            await store.nudge(session_id, "Later.", delivery=delivery)
        for _ in range(50):
            await asyncio.sleep(0)

    await run_turn(store, session_id, ScriptedModel([[Chunk("a"), post, Chunk("b")]]))
    assert "round_failed" not in await store.kinds(session_id)


async def test_what_was_seen_before_the_cancellation_is_seen_once(store: Store) -> None:
    session_id = await store.session()
    first = await store.nudge(session_id, "First.")

    async def post_and_hang() -> None:
        await store.nudge(session_id, "Stop.", delivery=Delivery.IMMEDIATE)
        await forever()

    model = ScriptedModel([[Chunk("a"), post_and_hang], says("Both.")])
    await run_turn(store, session_id, model)
    assert (await store.streams.interrupt(first.interrupt_id)).state is InterruptState.SEEN
    assert (await store.kinds(session_id)).count("interrupt_seen") == 2
    assert await store.outstanding(session_id) == 0


async def test_an_immediate_interrupt_that_waits_while_nothing_streams_is_delivered_as_any_other(
    store: Store,
) -> None:
    session_id = await store.session()
    await store.nudge(session_id, "Look north.", delivery=Delivery.IMMEDIATE)
    await run_turn(store, session_id, ScriptedModel([says("North it is.")]))
    assert "round_failed" not in await store.kinds(session_id)


async def test_the_end_of_the_session_closes_the_request_at_once(store: Store) -> None:
    session_id = await store.session()
    closed = asyncio.Event()

    async def end_and_hang() -> None:
        ending = asyncio.ensure_future(store.sessions.end(session_id))
        try:
            await forever()
        finally:
            closed.set()
            await ending

    await run_turn(store, session_id, ScriptedModel([[Chunk("It was "), end_and_hang]]))
    assert closed.is_set()
    assert (await store.kinds(session_id))[-1] == "session_changed"


# ---- once in a round, whoever holds the session


@dataclass
class Onlooker:
    """Knows how often somebody has looked whether an interrupt will not wait."""

    store: Store
    looks: int = 0

    @property
    def watched(self) -> Store:
        return store_with(self.store, Point("safe_points", "immediate_waits", after=True), self._count)

    async def _count(self) -> None:
        self.looks += 1

    async def post(self, session_id: SessionId) -> None:
        """Post an interrupt with immediate delivery, and wait until it has been noticed."""
        await self.store.nudge(session_id, "Stop.", delivery=Delivery.IMMEDIATE)
        await self.wait()

    async def wait(self) -> None:
        """Wait until somebody has looked from now on."""
        looks = self.looks

        async def looked() -> bool:
            # The first look may be on its way already.
            return self.looks >= looks + 2

        await until(looked)


class Cancelling(NamedTuple):
    """A session, and a script that is cancelled for an interrupt."""

    session_id: SessionId
    script: Script


async def cancelling(store: Store) -> Cancelling:
    session_id = await store.session()

    async def post_and_hang() -> None:
        await store.nudge(session_id, "Stop.", delivery=Delivery.IMMEDIATE)
        await forever()

    return Cancelling(session_id, [Chunk("a"), post_and_hang])


@pytest.mark.parametrize("speaker", ["voice", "agent"])
async def test_a_request_tried_again_by_another_holder_is_not_cancelled_a_second_time(
    store: Store, speaker: str
) -> None:
    onlooker = Onlooker(store)
    session_id, cancelled = await cancelling(store)

    async def post() -> None:
        await onlooker.post(session_id)

    scripts: list[Script] = [cancelled, [Chunk("b"), UNAVAILABLE], [Chunk("c"), post, Chunk("d")]]
    voice, asked = (scripts, [says("Yes.")]) if speaker == "voice" else ([], scripts)
    model = ScriptedModel(asked, voice)
    await run_turn(onlooker.watched, session_id, model)
    await forget_pause(store, session_id)
    await run_turn(onlooker.watched, session_id, model)
    kinds = await store.kinds(session_id)
    assert kinds[-1] == "turn_ended"
    assert kinds.count("round_failed") == 2
    check_requests(model.sent)


@pytest.mark.parametrize("after", [False, True])
async def test_a_cancellation_counts_as_soon_as_it_is_committed(store: Store, after: bool) -> None:
    onlooker = Onlooker(store)
    session_id, cancelled = await cancelling(store)

    async def post() -> None:
        await onlooker.post(session_id)

    again: list[Script] = [] if after else [cancelled]
    model = ScriptedModel([cancelled, *again, [Chunk("b"), post, Chunk("c")]])
    doomed = store_with(store, Point("transcript", "fail_request", after), die)
    await run_and_die(doomed, session_id, model)
    await agent(onlooker.watched, model).run(await take_over(store, session_id))
    kinds = await store.kinds(session_id)
    assert kinds.count("round_failed") == 1
    assert kinds[-1] == "turn_ended"
    check_requests(model.sent)


async def test_every_round_and_every_inner_voice_may_be_cancelled_once(store: Store) -> None:
    session_id, cancelled = await cancelling(store)
    model = ScriptedModel(
        [cancelled, calls("now"), cancelled, says("I stop."), says("I wait.")],
        [cancelled, says("Go on."), cancelled, says("Stop, then.")],
    )
    await run_turn(store, session_id, model)
    await run_turn(store, session_id, model)
    happenings = [event.happening for event in await store.streams.page(session_id, 0, 100)]
    failed = [(one.turn, one.round, one.attempt) for one in happenings if isinstance(one, RoundFailed)]
    assert failed == [(1, 0, 1), (1, 1, 1), (1, 2, 1), (2, 0, 1)]
    assert (await store.kinds(session_id))[-1] == "turn_ended"
    check_requests(model.sent)


async def test_what_a_safe_point_left_waiting_cancels_nothing(store: Store) -> None:
    onlooker = Onlooker(store)
    session_id = await store.session()
    for n in range(3):
        await store.nudge(session_id, f"{n} " * 1250, delivery=Delivery.IMMEDIATE)
    script: Script = [Chunk("a"), onlooker.wait, *calls("now")]
    model = ScriptedModel([script, script, says("I see.")], [[onlooker.wait, Chunk("Go on.")]], window=4000)
    await run_turn(onlooker.watched, session_id, model)
    assert "[2 more wait" in str(model.sent[0])
    kinds = await store.kinds(session_id)
    assert "round_failed" not in kinds
    assert kinds.count("interrupt_seen") == 3
    assert SKIPPED not in str(model.sent[-1])
    check_requests(model.sent)
