"""The demo's story across compactions: it goes on as if there had been none."""

import pytest

from agent_service.model.demo_memory import Heard, interrupts
from tests.model.play import Play, notes

NUDGE = "Watch the “Grey Seal”, the fishing boat to the north."
TURNS = 8


async def night(nudged: tuple[int, int], *compacted: tuple[int, int]) -> list[str]:
    """What is said and noted. Each pair is a turn and the rounds of it before which something happens."""
    play, told = Play(), []

    async def happens(now: tuple[int, int]) -> None:
        if now in compacted:
            await play.compact()
        if now == nudged:
            play.interrupt(f"[operator] {NUDGE}")

    for turn in range(TURNS):
        await happens((turn, 0))
        told.append(await play.speak_up())
        for rounds in range(1, 10):
            await happens((turn, rounds))
            reply = await play.round()
            told += [reply.text, *notes(reply)]
            if not reply.tool_calls:
                break
    return told


@pytest.mark.parametrize("nudged", [(0, 0), (2, 2), (3, 0), (3, 1), (3, 2), (3, 4), (4, 0), (TURNS, 0)])
async def test_a_compaction_at_any_time_changes_nothing_of_the_story(nudged: tuple[int, int]) -> None:
    expected = await night(nudged)
    for rounds in range(4):
        assert await night(nudged, (3, rounds)) == expected
    assert await night(nudged, (3, 0), (3, 2), (4, 1), (7, 3)) == expected


async def test_a_compaction_of_all_there_is_changes_nothing_of_the_story() -> None:
    undisturbed, compacted = Play(), Play()
    for play in (undisturbed, compacted):
        play.interrupt(f"[operator] {NUDGE}")
        await play.turn()
        await play.turn()
    assert "hours begun, 2; the last of them is closed" in await compacted.compact(keep_reply=False)
    for _ in range(3):
        assert await compacted.speak_up() == await undisturbed.speak_up()
        told = [[reply.text for reply in await play.finish_turn()] for play in (compacted, undisturbed)]
        assert told[0] == told[1]


async def test_the_summary_says_what_was_done_and_which_order_is_in_force() -> None:
    play = Play()
    play.interrupt(f"[operator] {NUDGE}")
    await play.turn()
    await play.turn()
    hours, order, last_words = (await play.compact()).splitlines()
    assert hours == "The watch so far: hours begun, 2; the last of them stands at step 3."
    assert order.startswith("In force since hour 1, by word of operator: “Watch the “Grey Seal”, the fishing")
    assert last_words.startswith("The last words in the log: “What is left fits on one line.")


async def test_a_new_session_has_a_summary_too() -> None:
    play = Play()
    await play.turn()
    play.rows = play.rows[-1:]
    assert (await play.compact()).startswith("The watch so far: hours begun, 0;")


async def test_calls_have_ids_of_their_own_across_a_compaction() -> None:
    play, ids = Play(), []
    for turn in range(6):
        ids += [call.call_id for reply in await play.turn() for call in reply.tool_calls]
        if turn == 3:
            await play.compact()
    assert len(set(ids)) == len(ids)


def test_what_a_frame_says_of_itself_is_no_part_of_an_interrupt() -> None:
    framed = [
        "<interrupt-k7qz>",
        "[operator] Count the seals",
        "[all of them]",
        "[cut here: 9 bytes, of which 1 are shown]",
        "[3 more wait, and come with a later step]",
        "</interrupt-k7qz>",
    ]
    assert interrupts("\n".join(framed)) == (Heard("operator", "Count the seals\n[all of them]"),)
