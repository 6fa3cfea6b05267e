from datetime import UTC

from spark.agent.v1.message_pb2 import Message
from sparkctl import look, messages
from tests.sparkctl.events import SESSION, nudge


def message(type_, turn=1, **content):
    return Message(type=f"MESSAGE_TYPE_{type_}", turn=turn, **content)


async def read(*rows):
    async def transcript():
        for row in rows:
            yield row

    printed = [look.line(row) async for row in messages.read(transcript(), UTC)]
    return "\n".join(printed).split("\n")


async def test_a_listing_goes_on_to_the_last_page(scripted, agent):
    scripted.agent.messages = [message("USER", text=str(number)) for number in range(5)]

    assert [one async for one in messages.listed(agent, SESSION)] == scripted.agent.messages


async def test_a_transcript_reads_turn_by_turn():
    assert await read(
        message("USER", text="Look at the lamp."),
        message("ASSISTANT", text="I climb.", reasoning="The lamp first."),
        message("TOOL_CALL", tool_call={"name": "now", "arguments_json": "{}"}),
        message("TOOL_RESPONSE", tool_response={"name": "now", "content": "02:00"}),
        message("TOOL_RESPONSE", tool_response={"name": "note", "content": "unknown", "is_error": True}),
        message("ASSISTANT", text=""),
        message("USER", turn=2, text="Go on."),
    ) == [
        "── turn 1 ──",
        "inner voice  Look at the lamp.",
        "reasoning    The lamp first.",
        "agent        I climb.",
        "tool         now {}",
        "response     now: 02:00",
        "error        note: unknown",
        "── turn 2 ──",
        "inner voice  Go on.",
    ]


async def test_an_interrupt_tells_its_way():
    assert (await read(message("SYSTEM", interrupt=nudge("SEEN"))))[1] == (
        "seen         operator nudges: Watch the trawler. (pending since 02:00:10, delivered at 02:00:12, "
        "seen by the model at 02:00:13)"
    )
    for state in ("DELIVERED", "CANCELLED"):
        assert (await read(message("SYSTEM", interrupt=nudge(state))))[1].split()[0] == state.lower()


async def test_a_summary_says_what_it_stands_for_and_opens_no_turn():
    assert await read(
        message("USER", turn=2, text="Go on."),
        message("SUMMARY", turn=1, text="A quiet night.", covers_through_position=40),
        message("ASSISTANT", turn=2, text="I climb."),
    ) == [
        "── turn 2 ──",
        "inner voice  Go on.",
        "summary      in place of what stands up to position 40",
        "             A quiet night.",
        "agent        I climb.",
    ]


async def test_long_texts_are_whole_and_without_power_over_the_terminal():
    long = "line\n" * 100 + "\x1b[2J"
    lines = await read(
        message("TOOL_CALL", tool_call={"name": "note", "arguments_json": long}),
        message("TOOL_RESPONSE", tool_response={"name": "note", "content": long}),
        message("SYSTEM", interrupt=nudge(text=long)),
    )
    assert "".join(lines).count("line") == 300
    assert "\x1b" not in "".join(lines)
