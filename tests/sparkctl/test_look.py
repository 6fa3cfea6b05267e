from io import StringIO

from rich.console import Console

from sparkctl import look
from sparkctl.rows import Row, Tone


def paper(height=24):
    return Console(file=StringIO(), width=40, height=height)


def written(console, renderable):
    console.print(renderable)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_a_line_keeps_its_text_in_its_column():
    assert look.line(Row(Tone.AGENT, "agent", "one\ntwo")) == "agent        one\n             two"
    assert look.line(Row(Tone.RULE, "", "turn 1")) == "── turn 1 ──"


def test_a_row_on_a_terminal_wraps_in_its_column():
    row = Row(Tone.AGENT, "agent", "I climb the stairs and check the lamp.")

    assert written(paper(), look.block([row])) == [
        "agent        I climb the stairs and",
        "             check the lamp.",
    ]


def test_text_is_shown_as_it_is_and_never_as_markup():
    row = Row(Tone.AGENT, "agent", "[red]:fire: [/]")

    assert written(paper(), look.block([row])) == ["agent        [red]:fire: [/]"]


def test_a_long_draft_shows_its_end_in_a_part_of_the_screen():
    console = paper(height=20)
    draft = Row(Tone.AGENT, "agent", " ".join(f"word{number}" for number in range(200)))
    lines = written(console, look.foot([draft], "hint", console))

    assert lines[1] == "agent        …"
    assert lines[-2].endswith("word199")
    assert lines[-1] == "hint"
    assert len(lines) == 7


def test_a_foot_full_of_everything_fits_the_screen():
    console = paper(height=24)
    texts = ["words and more words " * 100] * 2 + ["pending"] * 7
    rows = [Row(Tone.PENDING, "label", text) for text in texts]

    assert len(written(console, look.foot(rows, "hint " * 50, console))) <= 24


def test_every_tone_has_a_look():
    rows = [Row(tone, "label", "text") for tone in Tone]

    assert len(written(paper(), look.block(rows))) == len(Tone)
