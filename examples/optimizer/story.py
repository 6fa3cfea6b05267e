"""The story of an agent that tunes a model of its own: played by the real services, printed, and checked."""

import argparse
import asyncio
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from pathlib import Path

from google.protobuf.duration_pb2 import Duration
from rich.console import Console

from examples.optimizer.checks import Heard, checks
from examples.optimizer.script import START, Message, Reply, Use, next_reply
from examples.optimizer.stage import POLL_SECONDS, Stage, open_stage
from spark.agent.v1.agent_service_pb2 import GetSessionRequest
from spark.agent.v1.session_pb2 import Activity, Session, SessionConfig
from sparkctl import sessions
from sparkctl.failures import CommandFailed
from sparkctl.follow import Notice, follow
from sparkctl.running import first_of
from sparkctl.watch import Lines

_GOAL = "Have a model tuned that sorts the lines of the log, and tell what the newest one is about."
_PLAY_SECONDS = 120


class Story:
    """Is played once. With `kill` the optimizer is killed in the middle of the job, and started again when
    the agent sleeps."""

    def __init__(self, console: Console, kill: bool) -> None:
        self._console, self._kill = console, kill
        self._heard = Heard()
        self._news_piled_up = asyncio.Event()

    async def reply(self, messages: Sequence[Message]) -> Reply:
        """What the agent says next. With the better job started it thinks for so long that news pile up."""
        reply = next_reply(messages)
        failed = any("finetune.failed" in (message.content or "") for message in messages)
        if failed and isinstance(reply, Use) and reply.tool != START:
            await self._news_piled_up.wait()
        return reply

    async def play(self, stage: Stage) -> None:
        """Raises CommandFailed, naming what did not happen as it should."""
        session_id = (await sessions.create(stage.agent, _session())).session_id
        lines = Lines(self._console)
        async with (
            asyncio.TaskGroup() as tasks,
            aclosing(follow(stage.agent, session_id, 0, include_deltas=False)) as news,
        ):
            async for piece in news:
                lines.print(piece)
                for event in () if isinstance(piece, Notice) else piece:
                    self._heard.hear(event)
                    if self._heard.coalesced and not self._news_piled_up.is_set():
                        await self._let_it_sleep(stage)
                        tasks.create_task(self._see_it_asleep(stage, session_id))
                    if event.HasField("turn_ended"):
                        await sessions.end(stage.agent, session_id)
        self._judge()

    def log(self, line: str) -> None:
        """Takes what the optimizer logs."""
        self._tell("optimizer", line)

    async def _let_it_sleep(self, stage: Stage) -> None:
        if self._kill:
            await stage.optimizer.kill()
            self._tell("optimizer", "was killed")
        self._news_piled_up.set()

    async def _see_it_asleep(self, stage: Stage, session_id: str) -> None:
        activity = Activity.ACTIVITY_UNSPECIFIED
        while activity not in (Activity.ACTIVITY_WAITING, Activity.ACTIVITY_STOPPED):
            await asyncio.sleep(POLL_SECONDS)
            request = GetSessionRequest(session_id=session_id)
            activity = (await stage.agent.ask_again(stage.agent.stub.GetSession, request)).session.activity
        if activity == Activity.ACTIVITY_WAITING:
            self._heard.parked = True
            self._tell("agent", "sleeps, and nobody holds its session")
        if self._kill:
            await stage.optimizer.start(stage.services.addresses.gateway)

    def _tell(self, who: str, line: str) -> None:
        self._console.out(f"{who:<12} {line}", highlight=False)

    def _judge(self) -> None:
        missing = []
        for what, is_so in checks(self._heard):
            self._tell("ok" if is_so else "MISSING", what)
            missing += [] if is_so else [what]
        if missing:
            raise CommandFailed(f"the story failed: {'; '.join(missing)}")


async def tell(environment: Mapping[str, str], directory: Path, console: Console, kill: bool) -> None:
    """Everything is kept in the directory. Raises CommandFailed."""
    story = Story(console, kill)
    try:
        async with asyncio.timeout(_PLAY_SECONDS):
            async with open_stage(environment, directory, story.reply, story.log) as stage:
                await first_of(stage.services.until_one_dies(), story.play(stage))
    except TimeoutError:
        raise CommandFailed(f"the story was not over after {_PLAY_SECONDS} s") from None
    console.out("story: ok", highlight=False)


def _session() -> Session:
    config = SessionConfig(
        model="script",
        tools=["optimizer", "wait"],
        disable_inner_voice=True,
        cooldown=Duration(seconds=3600),
    )
    return Session(display_name="log-keeper", goal=_GOAL, config=config)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.optimizer.story", description=__doc__)
    parser.add_argument("--kill", action="store_true", help="kill the optimizer in the middle of the job")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        # PostgreSQL may run as another user, who has to get in.
        Path(name).chmod(0o755)
        try:
            asyncio.run(tell(os.environ, Path(name), Console(), arguments.kill))
        except CommandFailed as failure:
            sys.exit(str(failure))


if __name__ == "__main__":
    main()
