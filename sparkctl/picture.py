"""The picture in the README: what `sparkctl watch` shows of a real run at a good moment.

`python -m sparkctl.picture FILE` runs both services in a temporary directory and writes the picture as SVG.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, chdir
from datetime import UTC
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from spark.agent.v1.event_pb2 import DeltaKind, Event, TextDelta
from spark.agent.v1.interrupt_pb2 import Interrupt, Notification, Nudge
from spark.agent.v1.session_pb2 import Session, SessionConfig
from sparkctl import sessions
from sparkctl.connections import AgentService, Gateway, agent_service, gateway
from sparkctl.demo import GOAL, NUDGE
from sparkctl.failures import CommandFailed
from sparkctl.follow import News, Notice, follow
from sparkctl.post import post
from sparkctl.services import services
from sparkctl.watch import HINT, Screen

_NAME = "lighthouse"
_COLUMNS, _LINES = 100, 40
_LONGEST_SECONDS = 60
# The nudge is posted in the round before its answer, the picture taken after so much of that.
_ANSWER_ROUND = 3
_ANSWER_CHARACTERS = 80

# As rich writes it, but with the fonts that are there: a picture may fetch nothing.
_SVG = """\
<svg viewBox="0 0 {width} {height:.0f}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, Menlo, Consolas, monospace; font-size: {char_height}px }}
.{unique_id}-title {{ font-family: sans-serif; font-size: 18px }}
{styles}
</style>
<defs>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})">
{backgrounds}
<g class="{unique_id}-matrix">{matrix}</g>
</g>
</svg>
"""


def main() -> None:
    (file,) = (Path(name).absolute() for name in sys.argv[1:])
    # There is no `.env` in a new directory.
    with TemporaryDirectory(ignore_cleanup_errors=True) as directory, chdir(directory):
        try:
            picture = asyncio.run(_of_a_run(directory))
        except CommandFailed as failure:
            sys.exit(f"picture: {failure}")
    file.write_text(picture, encoding="utf-8")


async def _of_a_run(directory: str) -> str:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SPARK_")}
    own = {
        "SPARK_DATA_DIR": directory,
        "SPARK_AGENT_LISTEN": "127.0.0.1:0",
        "SPARK_GATEWAY_LISTEN": "127.0.0.1:0",
    }
    async with (
        services(inherited | own, lambda name, line: None) as running,
        agent_service(running.addresses.agent) as agent,
        gateway(running.addresses.gateway) as door,
    ):
        return await taken(agent, door)


async def taken(agent: AgentService, door: Gateway) -> str:
    """Create a session, nudge its agent and notify it, and picture it before it has seen the notification.

    Raises CommandFailed if that moment is missed.
    """
    config = SessionConfig(model="demo")
    session = await sessions.create(agent, Session(display_name=_NAME, goal=GOAL, config=config))
    director = _Director(door, session.session_id)
    try:
        async with asyncio.timeout(_LONGEST_SECONDS):
            async with aclosing(follow(agent, session.session_id, 0, include_deltas=True)) as news:
                return await _picture(news, director)
    except TimeoutError:
        raise CommandFailed(f"the moment has not come within {_LONGEST_SECONDS} s") from None


async def _picture(news: AsyncIterator[News], director: "_Director") -> str:
    console = Console(file=StringIO(), record=True, width=_COLUMNS, height=_LINES)
    screen = Screen(console, HINT, UTC)
    async for piece in news:
        for block in screen.take(piece):
            console.print(block)
        if not isinstance(piece, Notice) and await director.sees_moment(piece):
            console.print(screen.foot())
            return console.export_svg(title=f"sparkctl watch {_NAME}", code_format=_SVG, unique_id="watch")
    raise CommandFailed("the session ended before the moment had come")


class _Director:
    """Nudges the agent, and notifies it when it is about to answer the nudge."""

    def __init__(self, door: Gateway, session_id: str) -> None:
        self._door, self._session_id = door, session_id
        self._notified = False

    async def sees_moment(self, events: Sequence[Event]) -> bool:
        """Whether the agent is in the middle of its answer, and the notification waits for its end."""
        for event in events:
            match event.WhichOneof("event"):
                case "round_started" if event.round_started.round == _ANSWER_ROUND - 1:
                    await self._post(Interrupt(source="operator", nudge=Nudge(text=NUDGE)))
                case "round_started" if event.round_started.round == _ANSWER_ROUND:
                    fact = Notification(type="finetune.finished", subject="job-7")
                    await self._post(Interrupt(source="service:optimizer", notification=fact))
                case "interrupt_posted" if event.interrupt_posted.interrupt.HasField("notification"):
                    self._notified = True
                case "interrupt_delivered" if event.interrupt_delivered.interrupt.HasField("notification"):
                    raise CommandFailed("the moment was missed")
                case "text_delta" if self._notified and _is_under_way(event.text_delta):
                    return True
        return False

    async def _post(self, interrupt: Interrupt) -> None:
        interrupt.session_id = self._session_id
        await post(self._door, interrupt, request_id="")


def _is_under_way(delta: TextDelta) -> bool:
    of_answer = delta.round == _ANSWER_ROUND and delta.kind == DeltaKind.DELTA_KIND_TEXT
    return of_answer and delta.offset + len(delta.text) >= _ANSWER_CHARACTERS


if __name__ == "__main__":
    main()
