"""The demo, played through by a loop as small as can be."""

import pytest

from agent_service.model import Request, ToolSpec
from agent_service.model.demo import CONTEXT_WINDOW, DemoModel
from tests.model.play import Play, notes
from tests.model.support import NOTE, NOW, chunks_of

NUDGE = "Watch the fishing boat to the north."


async def test_the_same_conversation_gets_the_same_reply() -> None:
    play = Play()
    await play.turn()
    await play.speak_up()
    request = Request(play.messages, play.tools)
    assert await chunks_of(DemoModel(0), request) == await chunks_of(DemoModel(0), request)


async def test_a_turn_reads_the_clock_writes_the_log_and_answers() -> None:
    replies = await Play().turn()
    assert [[call.name for call in reply.tool_calls] for reply in replies] == [
        ["now"],
        ["note"],
        ["note"],
        [],
    ]
    assert all(reply.text for reply in replies)


async def test_two_nights_are_not_alike() -> None:
    play = Play()
    texts = [(await play.turn())[0].text for _ in range(16)]
    assert len(set(texts)) == 16


@pytest.mark.parametrize("tools", [(), (NOW,), (NOTE,), (NOW, NOTE)])
async def test_every_turn_ends_and_calls_only_what_is_offered(tools: tuple[ToolSpec, ...]) -> None:
    play, offered = Play(tools), {tool.name for tool in tools}
    for turn in range(10):
        if turn == 5:
            play.interrupt(f"[operator] {NUDGE}")
        replies = await play.turn()
        assert {call.name for reply in replies for call in reply.tool_calls} <= offered
        assert replies[-1].text


async def test_the_time_that_the_clock_told_is_used() -> None:
    play = Play()
    replies = await play.turn()
    assert "03:21" in replies[1].text


@pytest.mark.parametrize("rounds_before", [0, 1, 2, 3])
async def test_a_nudge_changes_the_plan_at_any_round(rounds_before: int) -> None:
    play = Play()
    await play.turn()
    await play.speak_up()
    for _ in range(rounds_before):
        assert (await play.round()).tool_calls
    play.interrupt(f"[operator] {NUDGE}")
    reaction, *rest = await play.finish_turn()
    assert reaction.text.startswith(
        "The operator says: “Watch the fishing boat to the north”. I change my plan"
    )
    assert notes(reaction) == [f"operator: {NUDGE}"]
    assert len(rest) == 3
    assert all("fishing boat" in str(rest[place]) for place in range(3))


async def test_a_nudge_after_the_last_round_is_answered_in_the_next_turn() -> None:
    play = Play()
    await play.turn()
    play.interrupt(f"[operator] {NUDGE}")
    assert "“Watch the fishing boat to the north”" in await play.speak_up()
    assert "I change my plan" in (await play.round()).text


async def test_later_turns_stay_with_the_nudge_until_the_next_one() -> None:
    play = Play()
    play.interrupt(f"[operator] {NUDGE}")
    await play.turn()
    for _ in range(4):
        assert "fishing boat" in await play.speak_up()
        assert "fishing boat" in (await play.finish_turn())[-1].text
    play.interrupt("[user:ryan] Count the seals")
    await play.turn()
    assert "Count the seals" in (await play.turn())[-1].text


async def test_a_notification_is_acknowledged_and_the_round_goes_on() -> None:
    undisturbed, told = Play(), Play()
    for play in (undisturbed, told):
        await play.speak_up()
        await play.round()
    told.interrupt("[service:optimizer] finetune.finished run-7", "Loss fell.", '{"loss": 0.12}')
    expected, reply = await undisturbed.round(), await told.round()
    assert reply.text.startswith("service:optimizer reports finetune.finished run-7 Loss fell.")
    assert notes(reply) == notes(expected)
    assert [later.text for later in await told.finish_turn()] == [
        later.text for later in await undisturbed.finish_turn()
    ]


async def test_a_fact_from_cron_is_no_order_whatever_its_type_looks_like() -> None:
    play = Play()
    play.interrupt("[cron:morning] ping")
    replies = await play.turn()
    assert replies[0].text.startswith("cron:morning reports ping.")
    assert "I change my plan" not in replies[0].text


async def test_all_interrupts_that_arrive_together_are_answered() -> None:
    play = Play()
    await play.speak_up()
    play.interrupt("[operator] Count the seals", "[service:optimizer] finetune.failed run-8")
    play.interrupt("[user:ryan] Count the gulls", "all of them")
    reply = await play.round()
    assert "The operator says: “Count the seals”." in reply.text
    assert "service:optimizer reports finetune.failed run-8." in reply.text
    assert "user:ryan says: “Count the gulls all of them”." in reply.text
    assert notes(reply) == ["operator: Count the seals; user:ryan: Count the gulls\nall of them"]


async def test_the_inner_voice_moves_on_with_every_turn() -> None:
    play, lines = Play(), []
    for _ in range(3):
        lines.append(await play.speak_up())
        await play.finish_turn()
    assert lines == [
        "It is ten o'clock. Light the lamp and open the log.",
        "It is eleven o'clock. See who is on the water.",
        "It is midnight. Read the glass and start a new date.",
    ]


async def test_a_reply_comes_in_words_and_a_call_with_its_name_first() -> None:
    play = Play()
    await play.speak_up()
    *said, last = await chunks_of(DemoModel(0), Request(play.messages, play.tools))
    assert sum(1 for chunk in said if chunk.text) > 10
    pieces = [piece for chunk in said for piece in chunk.tool_calls]
    assert [piece.name for piece in pieces] == ["now", "", ""]
    assert "".join(piece.arguments for piece in pieces) == '{"tz": "UTC"}'
    assert all(chunk.begun for chunk in said)
    assert last.usage
    assert last.usage.output_tokens > 10
    assert not last.begun


def test_at_pace_0_it_never_waits() -> None:
    performance = chunks_of(DemoModel(0), Play().inner_voice_request())
    with pytest.raises(StopIteration) as ended:
        performance.send(None)
    assert len(ended.value.value) > 5


async def test_its_context_window_is_a_constant() -> None:
    assert await DemoModel(0).context_window() == CONTEXT_WINDOW
