"""How rows look: in columns and colours on a terminal, as lines elsewhere."""

from collections.abc import Sequence
from typing import assert_never

from rich.console import Console, Group, RenderableType
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from sparkctl.rows import Row, Tone

_LABEL_WIDTH = 12


def line(row: Row) -> str:
    """A row for a file or a pipe."""
    if row.tone is Tone.RULE:
        return f"── {row.text} ──"
    text = row.text.replace("\n", "\n" + " " * (_LABEL_WIDTH + 1))
    return f"{row.label:<{_LABEL_WIDTH}} {text}".rstrip()


def block(rows: Sequence[Row]) -> RenderableType:
    """Rows for a terminal, whole."""
    return Group(*(_renderable(row) for row in rows))


def foot(rows: Sequence[Row], hint: str, console: Console) -> RenderableType:
    """Rows for the foot of a terminal: a text that would fill the screen shows its end."""
    width = max(10, console.width - _LABEL_WIDTH - 1)
    height = max(3, console.height // 4)
    tails = [Row(row.tone, row.label, _tail(row.text, console, width, height)) for row in rows]
    last = Text(hint, "dim")
    # The terminal writes ^C behind it, which must not begin a line that nobody erases.
    last.truncate(console.width - 3, overflow="ellipsis")
    return Group(Rule(style="dim"), *(_renderable(row) for row in tails), last)


def _tail(text: str, console: Console, width: int, height: int) -> str:
    wrapped = [part.plain for part in Text(text).wrap(console, width)]
    return text if len(wrapped) <= height else "\n".join(["…", *wrapped[1 - height :]])


def _renderable(row: Row) -> RenderableType:
    label_style, style = _styles(row.tone)
    if row.tone is Tone.RULE:
        return Rule(Text(row.text, style), align="left", style="dim")
    grid = Table.grid(padding=(0, 1))
    grid.add_column(width=_LABEL_WIDTH, no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row(Text(row.label, label_style), Text(row.text), style=style)
    return grid


def _styles(tone: Tone) -> tuple[str, str]:
    """The style of the label, on top of that of the row."""
    match tone:
        case Tone.RULE | Tone.QUIET | Tone.REASONING:
            return "dim", "dim"
        case Tone.INNER_VOICE:
            return "magenta", "italic"
        case Tone.AGENT:
            return "bold green", ""
        case Tone.TOOL:
            return "yellow", ""
        case Tone.PENDING | Tone.DELIVERED:
            return "bold", "grey0 on sky_blue1"
        case Tone.SEEN:
            return "bold", "grey100 on blue3"
        case Tone.SETTLED:
            return "strike", "dim"
        case Tone.PROBLEM:
            return "bold red", "red"
        case _:
            assert_never(tone)
