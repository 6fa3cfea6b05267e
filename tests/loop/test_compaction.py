"""Compaction as the agent goes through it: when, and of what."""

import json
from dataclasses import replace

from agent_service.domain import InterruptState, JsonObject, NewSession, SessionConfig, Usage
from agent_service.loop.window import UNKNOWN
from agent_service.model import Chunk, ToolSpec
from agent_service.tools import ToolContext, ToolOutcome, Traits
from tests.loop.checks import rows
from tests.loop.compactions import (
    EMPTY,
    FULL,
    LONG,
    OVERFLOW,
    WINDOW,
    attempts,
    check_all_requests,
    compactions,
    said,
    state,
    tag,
    works,
)
from tests.loop.scripted import ScriptedModel, agent, run_turn, says
from tests.loop.test_work import hold, toolbox
from tests.support import Store

# ---- when


async def test_a_context_that_is_nearly_full_by_the_servers_count_gives_way_to_a_summary(
    store: Store,
) -> None:
    session_id = await store.session()
    model = ScriptedModel(
        [works(EMPTY), works(FULL), says("Done.")], summaries=[says("All is calm.")], window=WINDOW
    )
    await run_turn(store, session_id, model)
    (compacted,) = await compactions(store, session_id)
    assert "All is calm." in said(compacted)
    assert not compacted.cut
    assert [message["role"] for message in model.sent[2]] == ["system", "user", "assistant", "tool"]
    assert model.sent[2][1]["content"] == said(compacted)
    check_all_requests(model)


async def test_everything_stays_in_the_transcript(store: Store) -> None:
    session_id = await store.session()
    model = ScriptedModel(
        [works(EMPTY), works(FULL), says("Done.")], summaries=[says("Calm.")], window=WINDOW
    )
    await run_turn(store, session_id, model)
    reply = ["assistant", "tool_call", "tool_response"]
    kinds = [kind for kind, _ in await rows(store, session_id)]
    assert kinds == ["user", *reply, *reply, "summary", "assistant"]


async def test_where_the_server_counts_nothing_the_context_is_estimated(store: Store) -> None:
    session_id = await store.session()
    model = ScriptedModel(
        [*(works() for _ in range(8)), says("Done.")],
        summaries=[says(f"Day {n}.") for n in range(8)],
        window=WINDOW,
    )
    await run_turn(store, session_id, model)
    assert len(await compactions(store, session_id)) > 2
    assert all(_estimate(messages) < WINDOW for messages in model.sent)
    check_all_requests(model)


async def test_what_came_after_the_servers_count_counts_too(store: Store) -> None:
    class Dig:
        spec, traits = ToolSpec("dig", "Digs.", {"type": "object"}), Traits()

        async def call(self, arguments: JsonObject, context: ToolContext) -> ToolOutcome:
            return ToolOutcome("sand " * 200)

    session_id = await store.session()
    script = [works(EMPTY), works(WINDOW // 2 + 200, name="dig"), says("Done.")]
    model = ScriptedModel(script, summaries=[says("Sand.")], window=WINDOW)
    await agent(store, model, tools=[Dig()]).run(await store.take(session_id))
    assert len(await compactions(store, session_id)) == 1


async def test_in_an_unknown_window_nothing_is_compacted_and_nothing_measured(store: Store) -> None:
    session_id = await store.session()
    model = ScriptedModel([works(10**6), works(10**6), says("Done.")], summaries=[says("No.")])
    await run_turn(store, session_id, model)
    assert model.summary_requests == []

    class Unread(list[object]):
        def __iter__(self) -> None:  # type: ignore[override]
            raise AssertionError("read from its first row on")

        __getitem__ = __len__ = __reversed__ = __iter__  # type: ignore[assignment]

    work = await hold(store, await store.claim(session_id), toolbox())
    work.window, work.context_tokens, work.rows = UNKNOWN, 0, Unread()  # type: ignore[assignment]
    await agent(store, model).compactor.keep_room(work)


async def test_a_compaction_that_would_win_little_is_left_alone(store: Store) -> None:
    """Naive: compact whenever the context is nearly full. What fills it may be the prompt."""
    session_id = await store.session()
    script = [works(FULL, text="Short."), *(works(FULL, text="Short.") for _ in range(4)), says("Done.")]
    model = ScriptedModel(script, window=WINDOW, summaries=[says("x" * 900) for _ in range(9)])
    await run_turn(store, session_id, model)
    assert model.summary_requests == []


async def test_a_summary_is_not_made_anew_for_the_sake_of_the_one_before(store: Store) -> None:
    """Naive: count what an earlier summary takes as won."""
    session_id = await store.session()
    short = [works(FULL, text="Short.") for _ in range(4)]
    model = ScriptedModel(
        [works(EMPTY), works(FULL, text="Short."), *short, says("Done.")],
        summaries=[says("x" * 900) for _ in range(9)],
        window=WINDOW,
    )
    await run_turn(store, session_id, model)
    assert len(model.summary_requests) == 1


async def test_thoughts_are_part_of_what_is_won(store: Store) -> None:
    """Naive: measure rows by their words, though reasoning is sent back too."""
    session_id = await store.session()
    thinks = [Chunk(reasoning=LONG), *works(FULL, text="Hm.")]
    model = ScriptedModel([thinks, thinks, says("Done.")], summaries=[says("I thought.")], window=WINDOW)
    await run_turn(store, session_id, model)
    assert len(model.summary_requests) == 1


async def test_the_inner_voice_finds_room_too(store: Store) -> None:
    session_id = await store.session()
    model = ScriptedModel(
        [works(EMPTY), [*says("Done.")[:2], Chunk(usage=Usage(FULL, 0, 10), begun=False)], says("Two.")],
        summaries=[says("All is calm.")],
        window=WINDOW,
    )
    await run_turn(store, session_id, model)
    await run_turn(store, session_id, model)
    asked = str(model.voice_requests[1].messages)
    assert "All is calm." in asked
    assert LONG not in asked
    assert (await attempts(store, session_id))[-1] == (2, 1, 1)
    check_all_requests(model)


async def test_where_the_inner_voice_is_disabled_the_round_finds_room(store: Store) -> None:
    config = SessionConfig("demo", disable_inner_voice=True)
    session_id = (await store.sessions.create(NewSession("", "Keep.", config, {}))).session.session_id
    model = ScriptedModel(
        [works(EMPTY), works(FULL), says("Done.")], summaries=[says("Calm.")], window=WINDOW
    )
    await run_turn(store, session_id, model)
    assert len(await compactions(store, session_id)) == 1


async def test_of_two_models_the_narrower_window_counts_and_an_unknown_one_does_not(store: Store) -> None:
    session_id = await store.session()
    model = ScriptedModel([says("Done.")], window=WINDOW)
    await run_turn(store, session_id, model)
    work = await hold(store, await store.claim(session_id), toolbox())
    assert work.terms
    config = replace(work.config, inner_voice_model="other")
    work.terms, work.turn_open = replace(work.terms, config=config), True
    windows = {"demo": 3000, "other": 2000}
    asker = agent(store, model).asker
    two = replace(asker, model=lambda name: ScriptedModel([], window=windows[name]))
    one = replace(asker, model=lambda name: ScriptedModel([], window=3000 if name == "demo" else None))
    assert (await two.window(work)).tokens == 2000
    assert (await one.window(work)).tokens == 3000


# ---- of what


async def test_a_compaction_comes_before_the_delivery_at_its_safe_point(store: Store) -> None:
    session_id = await store.session()

    async def nudge() -> None:
        await store.nudge(session_id, "Look north.")

    model = ScriptedModel(
        [works(EMPTY), [*works(FULL), nudge], says("North.")], summaries=[says("Calm.")], window=WINDOW
    )
    await run_turn(store, session_id, model)
    kinds = await store.kinds(session_id)
    order = ["interrupt_posted", "compacted", "interrupt_delivered", "interrupt_seen"]
    assert [kind for kind in kinds if kind in order] == order
    assert "Look north." not in str(model.summary_requests[0].messages)
    assert "Look north." in str(model.sent[2][-1]["content"])
    check_all_requests(model)


async def test_what_is_not_yet_answered_and_the_last_reply_are_kept(store: Store) -> None:
    session_id = await store.session()
    model = ScriptedModel([works(EMPTY), [Chunk("Done."), Chunk(usage=Usage(FULL, 0, 9), begun=False)]])
    model.window = WINDOW
    await run_turn(store, session_id, model)
    nudge = await store.nudge(session_id, "Look north.")
    model.agent, model.summaries = [says("North.")], [says("Calm.")]
    await run_turn(store, session_id, model)
    (compacted,) = await compactions(store, session_id)
    seen = await store.streams.interrupt(nudge.interrupt_id)
    assert compacted.summary.covers_through_position < seen.position < compacted.summary.position
    assert "Look north." not in str(model.summary_requests[0].messages)
    kept = [str(message["content"]).split("\n")[-1] for message in model.sent[-1]]
    assert kept[2:] == ["Done.", f"</interrupt-{tag(model.sent[-1])}>", "Go on."]
    assert seen.state is InterruptState.SEEN


async def test_a_summary_is_asked_for_with_the_agents_own_words_and_tools(store: Store) -> None:
    """A server that keeps the beginning of the last request at hand has little to read anew."""
    session_id = await store.session()
    model = ScriptedModel(
        [works(EMPTY), works(FULL), says("Done.")], summaries=[says("Calm.")], window=WINDOW
    )
    await run_turn(store, session_id, model)
    (asked,) = model.summary_requests
    assert asked.messages[:-1] == model.sent[1]
    assert asked.tools == model.requests[1].tools
    assert asked.messages[-1]["role"] == "user"


async def test_one_compaction_after_another_carries_the_summary_on(store: Store) -> None:
    session_id = await store.session()
    model = ScriptedModel(
        [works(EMPTY), *(works(FULL) for _ in range(4)), says("Done.")],
        summaries=[says(f"Day {n}.") for n in range(9)],
        window=WINDOW,
    )
    await run_turn(store, session_id, model)
    made = await compactions(store, session_id)
    assert ["Day 0." in said(made[0]), "Day 1." in said(made[1])] == [True, True]
    assert "Day 0." in str(model.summary_requests[1].messages)
    covered = [one.summary.covers_through_position for one in made]
    assert covered == sorted(set(covered))
    check_all_requests(model)


async def test_the_request_for_a_summary_sees_nothing_and_no_watcher_hears_it(store: Store) -> None:
    session_id = await store.session()
    posted, states = [], []

    async def post() -> None:
        posted.append(await store.nudge(session_id))

    async def look() -> None:
        states.append(await state(store, posted[0]))

    model = ScriptedModel([[*works(), post], [OVERFLOW], says("Done.")], summaries=[[Chunk("Calm."), look]])
    with store.wakeups.watch(session_id) as watch:
        await run_turn(store, session_id, model)
        heard = "".join(delta.text for delta in watch.take_deltas())
    assert states == [InterruptState.DELIVERED]
    assert await state(store, posted[0]) is InterruptState.SEEN
    assert "Calm." not in heard


def _estimate(messages: object) -> int:
    return len(json.dumps(messages)) // 3
