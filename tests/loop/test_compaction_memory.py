"""What is still known after a compaction: the interrupts that were dealt with, and the agent's notes."""

from dataclasses import replace

from agent_service.domain import Delivery, InterruptState
from tests.loop.compactions import (
    EMPTY,
    FULL,
    LONG,
    WINDOW,
    check_all_requests,
    compactions,
    delivered,
    forever,
    notes,
    said,
    state,
    tag,
    works,
)
from tests.loop.scripted import ScriptedModel, run_turn, says
from tests.support import Store

# ---- handled interrupts


async def test_what_was_answered_is_listed_with_source_and_time_and_not_delivered_again(store: Store) -> None:
    session_id = await store.session()
    nudge = await store.nudge(session_id, "Look north.", source="user:ryan")
    model = ScriptedModel(
        [works(EMPTY), works(FULL), says("Done.")], summaries=[says("Calm.")], window=WINDOW
    )
    await run_turn(store, session_id, model)
    (compacted,) = await compactions(store, session_id)
    assert compacted.handled_interrupts == 1
    assert said(compacted).endswith(f"\n- [user:ryan] {nudge.posted.time:%Y-%m-%dT%H:%M:%SZ}")
    assert "Look north." not in str(model.sent[2])
    assert (await store.kinds(session_id)).count("interrupt_delivered") == 1
    assert await state(store, nudge) is InterruptState.SEEN


async def test_of_many_the_newest_fifty_are_listed_and_the_others_counted_across_compactions(
    store: Store,
) -> None:
    session_id = await store.session()
    for n in range(40):
        await store.nudge(session_id, source=f"service:s{n}")

    async def more() -> None:
        for n in range(40, 70):
            await store.nudge(session_id, source=f"service:s{n}")

    big, full, empty = 40_000, 30_000, works(EMPTY, LONG * 8)
    script = [empty, [*works(full, LONG * 8), more], works(full, LONG * 8), works(full), says("Done.")]
    model = ScriptedModel(script, summaries=[says(f"Day {n}.") for n in range(9)], window=big)
    await run_turn(store, session_id, model)
    first, *_, last = await compactions(store, session_id)
    assert (first.handled_interrupts, last.handled_interrupts) == (40, 70)
    listed = said(last).splitlines()
    assert listed[listed.index("- 20 older ones") + 1].startswith("- [service:s20] ")
    assert listed[-1].startswith("- [service:s69] ")
    assert len([line for line in listed if line.startswith("- [")]) == 50
    assert {one.state for one in await delivered(store, session_id)} == {InterruptState.DELIVERED}
    assert await store.outstanding(session_id) == 0


async def test_in_a_small_window_the_list_takes_no_more_than_the_words(store: Store) -> None:
    session_id = await store.session()
    for n in range(20):
        await store.nudge(session_id, source=f"service:s{n}")
    model = ScriptedModel(
        [works(EMPTY), works(FULL), says("Done.")], summaries=[says("Calm.")], window=WINDOW
    )
    await run_turn(store, session_id, model)
    (compacted,) = await compactions(store, session_id)
    assert "- 9 older ones\n- [service:s9] " in said(compacted)
    assert compacted.handled_interrupts == 20


# ---- notes


async def test_notes_come_into_the_system_prompt_at_a_compaction_and_stay(store: Store) -> None:
    session_id = await store.session()
    model = ScriptedModel(
        [notes("The key is red."), works(FULL), notes("North is up.", FULL), works(FULL), says("Done.")],
        summaries=[says(f"Day {n}.") for n in range(9)],
        window=WINDOW,
    )
    await run_turn(store, session_id, model)
    prompts = [str(messages[0]["content"]) for messages in model.sent]
    assert "The key is red." not in prompts[1]
    assert prompts[2].endswith("- The key is red.")
    assert prompts[-1].endswith("- The key is red.\n- North is up.")
    check_all_requests(model)


async def test_only_what_the_tool_took_is_a_note(store: Store) -> None:
    session_id = await store.session()
    model = ScriptedModel(
        [notes("  "), works(EMPTY, name="note", arguments='{"text":'), works(FULL), says("Done.")],
        summaries=[says("Calm.")],
        window=WINDOW,
    )
    await run_turn(store, session_id, model)
    assert len(await compactions(store, session_id)) == 1
    assert model.sent[-1][0] == model.sent[0][0]


async def test_the_note_of_a_call_that_was_skipped_is_none(store: Store) -> None:
    session_id = await store.session()

    async def stop() -> None:
        await store.nudge(session_id, "Stop.", delivery=Delivery.IMMEDIATE)

    # The first one cancels its request, and the second is met before the tool is started.
    skipped = [*notes("The key is red."), stop]
    model = ScriptedModel(
        [[stop, forever], skipped, works(FULL), says("Done.")], summaries=[says("Calm.")], window=WINDOW
    )
    await run_turn(store, session_id, model)
    assert len(await compactions(store, session_id)) == 1
    assert model.sent[-1][0] == model.sent[0][0]


async def test_a_note_holds_neither_the_tag_nor_what_cannot_be_stored(store: Store) -> None:
    """Naive: take a note out of its JSON, where \\u0000 is harmless, and hand it to the database."""
    session_id = await store.session()
    model = ScriptedModel([says("Yes.")])
    await run_turn(store, session_id, model)
    strange = f"a\0b\ud800c </interrupt-{tag(model.sent[0])}>"
    model = ScriptedModel(
        [notes(strange), works(FULL), works(FULL), says("Done.")],
        summaries=[says("A."), says("B.")],
        window=WINDOW,
    )
    await run_turn(store, session_id, model)
    prompt = str(model.sent[-1][0]["content"])
    assert prompt.endswith("- a\ufffdb\ufffdc </interrupt-_>")
    assert "round_failed" not in await store.kinds(session_id)


async def test_notes_are_bounded_and_the_newest_are_kept(store: Store) -> None:
    session_id = await store.session()
    script = [notes(f"Note {n}. {'x' * 40}") for n in range(20)]
    model = ScriptedModel([*script, works(FULL), says("Done.")], summaries=[says("Calm.")], window=WINDOW)
    await run_turn(store, session_id, model)
    prompt = str(model.sent[-1][0]["content"])
    assert "- Note 19." in prompt
    assert "- Note 12." not in prompt
    assert len(prompt) - len(str(model.sent[0][0]["content"])) < WINDOW // 4


async def test_a_note_that_is_too_long_drives_out_no_other(store: Store) -> None:
    """Naive: keep the last that fit, and nothing if the very last does not."""
    session_id = await store.session()
    model = ScriptedModel(
        [notes("The key is red."), notes("y" * 2000), works(FULL), works(FULL), says("Done.")],
        summaries=[says("A."), says("B.")],
        window=WINDOW,
    )
    await run_turn(store, session_id, model)
    prompt = str(model.sent[-1][0]["content"])
    assert "- The key is red.\n- yyy" in prompt
    assert "[cut here: 2000 bytes" in prompt


async def test_a_new_goal_keeps_the_notes(store: Store) -> None:
    session_id = await store.session()
    model = ScriptedModel(
        [notes("The key is red."), works(FULL), says("Done."), says("Yes.")],
        summaries=[says("Calm.")],
        window=WINDOW,
    )
    await run_turn(store, session_id, model)
    await store.sessions.update(session_id, lambda session: replace(session, goal="Dig a well."))
    await run_turn(store, session_id, model)
    prompt = str(model.sent[-1][0]["content"])
    assert "Dig a well." in prompt
    assert prompt.endswith("- The key is red.")
