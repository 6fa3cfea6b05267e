"""The process dies around a compaction, and another one goes on: nothing is doubled, and no byte differs."""

import json
from collections.abc import Sequence

import pytest

from agent_service.domain import InterruptState, JsonObject, RoundFailed, SessionId
from agent_service.model import Chunk
from tests.loop.checks import rows
from tests.loop.compactions import (
    EMPTY,
    FULL,
    OVERFLOW,
    WINDOW,
    attempts,
    check_all_requests,
    compactions,
    happenings,
    notes,
    state,
    works,
)
from tests.loop.faults import Point, claim_again, lose_track, store_with
from tests.loop.scripted import ScriptedModel, agent, calls, die, run_and_die, run_turn, says, take_over
from tests.loop.test_work import hold, toolbox
from tests.support import Store

BEFORE, AFTER = Point("transcript", "compact", after=False), Point("transcript", "compact", after=True)
REFUSED = Point("transcript", "fail_request", after=True)
points = pytest.mark.parametrize("point", [BEFORE, AFTER], ids=["before", "after"])


def bytes_of(messages: Sequence[JsonObject]) -> str:
    return json.dumps(messages)


def nearly_full() -> ScriptedModel:
    """Before its third request, with which the process dies, the context is nearly full."""
    return ScriptedModel(
        [notes("The key is red."), works(FULL), [die]], summaries=[says("Calm.")], window=WINDOW
    )


async def go_on(store: Store, session_id: SessionId, model: ScriptedModel) -> None:
    """In another process."""
    await agent(store, model).run(await take_over(store, session_id))
    assert (await store.kinds(session_id))[-1] == "turn_ended"


async def test_the_request_after_a_compaction_is_the_same_in_the_next_process(store: Store) -> None:
    session_id = await store.session()
    nudge = await store.nudge(session_id)
    before = nearly_full()
    await run_and_die(store, session_id, before)
    after = ScriptedModel([says("Done.")], window=WINDOW)
    await go_on(store, session_id, after)
    assert bytes_of(after.sent[0]) == bytes_of(before.sent[2])
    assert after.requests[0].tools == before.requests[2].tools
    assert await attempts(store, session_id) == [(1, 1, 1), (1, 2, 1), (1, 3, 1), (1, 3, 2)]
    assert await state(store, nudge) is InterruptState.SEEN
    assert after.summary_requests == []


@points
async def test_a_process_that_dies_at_a_compaction_leaves_it_whole_or_undone(
    store: Store, point: Point
) -> None:
    session_id = await store.session()
    before = nearly_full()
    await run_and_die(store_with(store, point, die), session_id, before)
    nudge = await store.nudge(session_id)
    after = ScriptedModel([says("Done.")], summaries=[says("Calm.")], window=WINDOW)
    await go_on(store, session_id, after)
    assert len(await compactions(store, session_id)) == 1
    assert len(after.summary_requests) == (1 if point is BEFORE else 0)
    assert before.summary_requests == (after.summary_requests or before.summary_requests)
    assert await attempts(store, session_id) == [(1, 1, 1), (1, 2, 1), (1, 3, 1)]
    assert str(after.sent[0][0]["content"]).endswith("- The key is red.")
    assert (await rows(store, session_id)).count(("user", "Go on.")) == 1
    assert await state(store, nudge) is InterruptState.SEEN
    check_all_requests(after)


async def test_a_summary_cut_off_by_a_crash_is_asked_for_again_word_for_word(store: Store) -> None:
    session_id = await store.session()
    before = nearly_full()
    before.summaries = [[Chunk("Cal"), die]]
    await run_and_die(store, session_id, before)
    after = ScriptedModel([says("Done.")], summaries=[says("Calm.")], window=WINDOW)
    await go_on(store, session_id, after)
    assert before.summary_requests == after.summary_requests
    assert len(await compactions(store, session_id)) == 1


async def test_before_the_inner_voice_too(store: Store) -> None:
    session_id = await store.session()
    model = ScriptedModel(
        [works(EMPTY), [*says("Done.")[:2], works(FULL)[-1]], says("Two.")], window=WINDOW, summaries=[[die]]
    )
    await run_turn(store, session_id, model)
    await run_and_die(store, session_id, model)
    model.summaries = [says("Calm.")]
    await go_on(store, session_id, model)
    assert (await store.kinds(session_id)).count("turn_started") == 2
    assert await attempts(store, session_id) == [(1, 1, 1), (1, 2, 1), (2, 1, 1)]
    assert (await rows(store, session_id)).count(("user", "Go on.")) == 2
    check_all_requests(model)


@pytest.mark.parametrize("point", [REFUSED, BEFORE, AFTER], ids=["refused", "before", "after"])
async def test_after_a_refused_request_the_same_round_goes_on(store: Store, point: Point) -> None:
    session_id = await store.session()

    async def nudge() -> None:
        await store.nudge(session_id, "Look north.")

    before = ScriptedModel([works(), [*works(), nudge], [OVERFLOW]], summaries=[says("Calm.")])
    await run_and_die(store_with(store, point, die), session_id, before)
    again = [] if point is AFTER else [[OVERFLOW]]
    after = ScriptedModel([*again, says("Done.")], summaries=[says("Calm.")])
    await go_on(store, session_id, after)
    (summary,) = await compactions(store, session_id)
    assert len(await happenings(store, session_id, RoundFailed)) == (1 if point is AFTER else 2)
    assert {(turn, round) for turn, round, _ in (await attempts(store, session_id))[2:]} == {(1, 3)}
    assert summary.summary.covers_through_position == 4
    kinds = await store.kinds(session_id)
    assert kinds.count("interrupt_delivered") == kinds.count("interrupt_seen") == 1
    check_all_requests(after)


async def test_a_turn_of_which_only_a_summary_is_left_goes_on_where_it_was(store: Store) -> None:
    """The last reply is covered too: only the summary tells which round it was."""
    session_id = await store.session()
    before = ScriptedModel([calls("now"), [OVERFLOW], [OVERFLOW], [die]], summaries=[says("A."), says("B.")])
    await run_and_die(store, session_id, before)
    claim = await take_over(store, session_id)
    work = await hold(store, claim.lease, toolbox())
    assert [row.type.value for row in work.rows] == ["summary"]
    assert work.voice_has_spoken
    assert work.open_calls == []
    assert work.next_round == work.place.round == 2
    after = ScriptedModel([calls("now"), says("Done.")])
    await agent(store, after).run(claim)
    assert bytes_of(after.sent[0]) == bytes_of(before.sent[-1])
    assert (await attempts(store, session_id))[3:] == [(1, 2, 3), (1, 2, 4), (1, 3, 1)]


async def test_an_unspoken_inner_voice_of_which_only_a_summary_is_left_speaks(store: Store) -> None:
    session_id = await store.session()
    model = ScriptedModel(
        [calls("now"), says("Done."), says("Two.")],
        [says("First."), [OVERFLOW], [OVERFLOW], [die], says("Second.")],
        summaries=[says("A."), says("B.")],
    )
    await run_turn(store, session_id, model)
    await run_and_die(store, session_id, model)
    await go_on(store, session_id, model)
    words = [text for kind, text in await rows(store, session_id) if kind == "user"]
    assert words == ["First.", "Second."]
    assert bytes_of(model.voice_requests[-1].messages) == bytes_of(model.voice_requests[-2].messages)
    assert (await attempts(store, session_id))[-1] == (2, 1, 1)


@points
async def test_a_compaction_of_unknown_outcome_is_not_repeated_blindly(store: Store, point: Point) -> None:
    """Naive: write it again, and cover with a summary what a summary covers."""
    session_id = await store.session()
    before = nearly_full()
    replica = await lose_track(store, session_id, before, point)
    (claim,) = await claim_again(store, replica)
    after = ScriptedModel([says("Done.")], summaries=[says("Calm.")], window=WINDOW)
    await agent(store, after).run(claim)
    assert (await store.kinds(session_id))[-1] == "turn_ended"
    assert len(await compactions(store, session_id)) == 1
    assert (await attempts(store, session_id))[-1] == (1, 3, 1)
