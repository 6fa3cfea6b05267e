"""Windows that are narrow for what comes, of models whose tokens are short: every session gets on, or has
failed with a reason."""

import json
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass, field
from itertools import count

import pytest

from agent_service.domain import (
    InterruptState,
    JsonObject,
    RoundFailed,
    RoundFailure,
    SessionId,
    SessionMode,
    SessionState,
    Usage,
)
from agent_service.loop.agent import MAX_OVERFLOWS, NO_ROOM
from agent_service.loop.refusal import SHORTENED
from agent_service.model import INNER_VOICE_MARK, SUMMARY_MARK, Chunk, Request, ToolCallPiece, ToolSpec
from agent_service.tools import ToolContext, ToolOutcome, Traits
from tests.loop.checks import check_requests
from tests.loop.compactions import OVERFLOW, attempts, compactions, delivered, forget_pause, happenings, state
from tests.loop.scripted import (
    ScriptedModel,
    TakesSystemMessages,
    agent,
    die,
    run_and_die,
    run_turn,
    says,
    take_over,
)
from tests.support import Store

LONG = "y" * 8000


@dataclass
class NarrowModel(TakesSystemMessages):
    """Has tokens of so many bytes, and refuses what its window has no room for. Calls a tool in every round
    but each fourth."""

    window: int
    bytes_per_token: float
    counts: bool = True
    # What the service takes for its window.
    promised: int | None = None
    requests: list[Request] = field(default_factory=list)
    refused: int = 0
    _rounds: Iterator[int] = field(default_factory=lambda: count(1))

    async def context_window(self) -> int | None:
        return self.promised or self.window

    async def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        said = json.dumps(request.messages, ensure_ascii=False) + str(request.tools)
        tokens = int(len(said.encode()) / self.bytes_per_token)
        if tokens + 20 > self.window:
            self.refused += 1
            raise OVERFLOW
        check_requests([request.messages])
        self.requests.append(request)
        if INNER_VOICE_MARK in said or SUMMARY_MARK in said or next(self._rounds) % 4 == 0:
            yield Chunk("All is calm.")
        else:
            yield Chunk(tool_calls=(ToolCallPiece(0, "flood_0", "flood", "{}"),))
            yield Chunk(tool_calls=(ToolCallPiece(1, "flood_1", "flood", "{}"),))
        if self.counts:
            yield Chunk(usage=Usage(tokens, 0, 10), begun=False)


class Flood:
    spec, traits = ToolSpec("flood", "Floods.", {"type": "object"}), Traits()

    async def call(self, arguments: JsonObject, context: ToolContext) -> ToolOutcome:
        return ToolOutcome("water " * 2000)


async def live(store: Store, session_id: SessionId, model: NarrowModel) -> SessionState:
    """Let the session work, without its pauses, until nothing waits any more or it has failed."""
    for _ in range(200):
        found = await store.sessions.get(session_id)
        if not found.outstanding or found.session.state is SessionState.FAILED:
            return found.session.state
        await forget_pause(store, session_id)
        await agent(store, model, tools=[Flood()]).run(await store.take(session_id))
    raise AssertionError("it neither gets on nor fails")


@pytest.mark.parametrize("counts", [True, False], ids=["counted", "uncounted"])
@pytest.mark.parametrize("mode", SessionMode)
@pytest.mark.parametrize(("window", "promised"), [(2048, None), (4096, None), (4096, 400_000)])
async def test_long_interrupts_and_long_answers_of_tools_come_through(
    store: Store, window: int, promised: int | None, mode: SessionMode, counts: bool
) -> None:
    session_id = await store.session(mode)
    posted = [await store.nudge(session_id, f"#{n}. {LONG}") for n in range(5)]
    model = NarrowModel(window, 1.5, counts, promised)
    assert await live(store, session_id, model) is SessionState.ACTIVE
    assert {await state(store, one) for one in posted} == {InterruptState.SEEN}
    found = [one.interrupt_id for one in await delivered(store, session_id)]
    assert found == [one.interrupt_id for one in posted]


async def test_once_the_server_has_counted_nothing_is_refused(store: Store) -> None:
    """Naive: take for granted that tokens are long, at the end of every compaction again."""
    session_id = await store.session()
    model = NarrowModel(4096, 1.5)
    await agent(store, model, tools=[Flood()]).run(await store.take(session_id))
    for n in range(5):
        await store.nudge(session_id, f"#{n}. {LONG}")
    assert await live(store, session_id, model) is SessionState.ACTIVE
    assert len(await compactions(store, session_id)) >= 2
    assert model.refused == 0


async def test_what_was_delivered_and_is_too_long_is_shown_shorter_and_stays_so(store: Store) -> None:
    session_id = await store.session(SessionMode.ON_INTERRUPT)
    short = await store.nudge(session_id, "#0. Look north.")
    long = await store.nudge(session_id, f"#1. {'y' * 2500}")
    before = ScriptedModel([[OVERFLOW], [OVERFLOW], [die]], window=4000)
    await run_and_die(store, session_id, before)
    after = ScriptedModel([says("Done.")], window=4000)
    await agent(store, after).run(await take_over(store, session_id))
    shown = [str(messages[-2]["content"]) for messages in (*before.sent, *after.sent)]
    assert ["cut here: 2515 bytes" in one for one in shown] == [False, True, True, True]
    assert all("Look north." in one for one in shown)
    assert len(shown[0]) > 1.5 * len(shown[1]) > 2 * len(shown[2])
    assert shown[2] == shown[3]
    stored = [await store.streams.interrupt(one.interrupt_id) for one in (short, long)]
    assert [bool(one.shown_bytes) for one in stored] == [False, True]
    failed = await happenings(store, session_id, RoundFailed)
    assert [(one.reason, one.retry_time) for one in failed] == [(RoundFailure.CONTEXT_OVERFLOW, None)] * 2
    assert all(SHORTENED in one.detail for one in failed)


async def test_what_a_model_has_begun_to_answer_is_shown_as_before(store: Store) -> None:
    session_id = await store.session(SessionMode.ON_INTERRUPT)
    await store.nudge(session_id, f"#0. {'y' * 2500}")
    model = ScriptedModel([[Chunk("I "), OVERFLOW], says("Done.")], window=4000)
    await run_turn(store, session_id, model)
    await forget_pause(store, session_id)
    await run_turn(store, session_id, model)
    first, second = model.sent
    assert first == second


async def test_nothing_is_added_to_what_was_refused(store: Store) -> None:
    """Naive: fill with what waits the room that was made."""
    session_id = await store.session(SessionMode.ON_INTERRUPT)
    for n in range(4):
        await store.nudge(session_id, f"#{n}. {'y' * 900}")
    model = ScriptedModel([[OVERFLOW], [OVERFLOW], says("Done.")], window=4000)
    await run_turn(store, session_id, model)
    assert [[f"#{n}." in str(messages) for n in range(4)] for messages in model.sent] == [
        [True, True, True, False]
    ] * 3


async def test_where_nothing_helps_the_session_has_failed_until_somebody_resumes_it(store: Store) -> None:
    session_id = await store.session(SessionMode.ON_INTERRUPT)
    nudge = await store.nudge(session_id, "Look north.")
    model = ScriptedModel([*([OVERFLOW] for _ in range(MAX_OVERFLOWS)), says("North.")])
    for _ in range(MAX_OVERFLOWS):
        await run_turn(store, session_id, model)
        await forget_pause(store, session_id)
    session = (await store.sessions.get(session_id)).session
    assert session.state is SessionState.FAILED
    assert session.state_reason == NO_ROOM.format(detail=OVERFLOW.detail)
    assert (await store.kinds(session_id))[-2:] == ["round_failed", "session_changed"]
    assert await store.leases.claim_due(await store.replica(), 10) == []
    await store.sessions.resume(session_id)
    await run_turn(store, session_id, model)
    assert await state(store, nudge) is InterruptState.SEEN
    assert await attempts(store, session_id) == [(1, 1, n) for n in range(1, MAX_OVERFLOWS + 2)]


async def test_what_is_delivered_after_a_resume_is_as_long_as_ever(store: Store) -> None:
    """Naive: go by what was learnt of a window that somebody has widened since."""
    session_id = await store.session()
    narrow, wide = (
        ScriptedModel([[OVERFLOW]] * MAX_OVERFLOWS, window=4000),
        ScriptedModel([says("Done.")], window=4000),
    )
    for _ in range(MAX_OVERFLOWS):
        await run_turn(store, session_id, narrow)
        await forget_pause(store, session_id)
    await store.sessions.resume(session_id)
    await store.nudge(session_id, LONG)
    await run_turn(store, session_id, wide)
    assert "of which 3000 are shown" in str(wide.sent[0][-1]["content"])


async def test_the_inner_voice_says_no_more_than_there_is_room_for(store: Store) -> None:
    session_id = await store.session()
    model = ScriptedModel([says("Done.")], [says("go on, and " * 1000)], window=4000)
    await run_turn(store, session_id, model)
    said = str(model.sent[0][1]["content"])
    assert said.startswith("go on")
    assert "[cut here: 10999 bytes, of which 1500 are shown]" in said
