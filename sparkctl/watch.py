"""Shows a session while it works."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, tzinfo

from google.protobuf.json_format import MessageToJson
from rich.console import Console, RenderableType
from rich.live import Live

from sparkctl import look
from sparkctl.follow import Connected, Disconnected, News, Notice, Waiting
from sparkctl.rows import Row
from sparkctl.transcript import Transcript

HINT = "Ctrl-C ends the watching, not the agent"

_REDRAW_SECONDS = 0.1


class Lines:
    """Prints what happens as lines, for a file or a pipe."""

    def __init__(self, console: Console) -> None:
        self._console, self._transcript = console, Transcript(live=False)

    def print(self, piece: News) -> None:
        for row in _rows(self._transcript, piece):
            self._console.out(look.line(row), highlight=False)


class Screen:
    """What a terminal shows: rows that stay, and below them a foot that is drawn again and again."""

    def __init__(self, console: Console, hint: str, zone: tzinfo | None = None) -> None:
        self._console, self._hint = console, hint
        self._transcript = Transcript(live=True, zone=zone)

    def take(self, piece: News) -> list[RenderableType]:
        """Take in what happened, and return what is to be printed of it."""
        rows = _rows(self._transcript, piece)
        return [look.block(rows)] if rows else []

    def foot(self) -> RenderableType:
        return look.foot(self._transcript.foot(datetime.now(UTC)), self._hint, self._console)


async def show(news: AsyncIterator[News], console: Console, hint: str) -> None:
    """Show a session until it has ended: with a live foot on a terminal, as lines elsewhere."""
    if console.is_interactive:
        await _show_live(news, console, hint)
        return
    lines = Lines(console)
    async for piece in news:
        lines.print(piece)


async def show_json(news: AsyncIterator[News], console: Console, notices: Console) -> None:
    """One event per line, in the JSON of protobuf. What is no event goes to `notices`."""
    lines = Lines(notices)
    async for piece in news:
        if isinstance(piece, Notice):
            lines.print(piece)
            continue
        for event in piece:
            console.out(MessageToJson(event, indent=None), highlight=False)


async def _show_live(news: AsyncIterator[News], console: Console, hint: str) -> None:
    screen = Screen(console, hint)
    with Live(screen.foot(), console=console, auto_refresh=False, transient=True) as live:
        async with _redrawing(live, screen.foot):
            async for piece in news:
                for block in screen.take(piece):
                    # Printing draws the foot again: it must not show once more what is printed now.
                    live.update(screen.foot())
                    console.print(block)


@asynccontextmanager
async def _redrawing(live: Live, foot: Callable[[], RenderableType]) -> AsyncIterator[None]:
    async def redraw() -> None:
        while True:
            live.update(foot(), refresh=True)
            await asyncio.sleep(_REDRAW_SECONDS)

    task = asyncio.create_task(redraw())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


def _rows(transcript: Transcript, piece: News) -> list[Row]:
    match piece:
        case Disconnected(since):
            return transcript.disconnected(since)
        case Connected():
            return transcript.connected()
        case Waiting(interrupts):
            return transcript.waiting(interrupts)
        case _:
            return [row for event in piece for row in transcript.apply(event)]
