"""The demonstration: both services, an agent at work, and a nudge that reaches it."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager

from google.protobuf.duration_pb2 import Duration
from rich.console import Console

from spark.agent.v1.agent_service_pb2 import ListSessionsRequest
from spark.agent.v1.event_pb2 import Event
from spark.agent.v1.interrupt_pb2 import Interrupt, Nudge
from spark.agent.v1.session_pb2 import Session, SessionConfig, SessionState
from sparkctl import hints, sessions
from sparkctl.connections import AgentService, Gateway, agent_service, gateway
from sparkctl.failures import CommandFailed
from sparkctl.follow import Notice, follow
from sparkctl.post import post
from sparkctl.running import first_of
from sparkctl.services import ServiceDied, Services, services
from sparkctl.story import Story
from sparkctl.watch import Lines, show

GOAL = (
    "Keep the watch at the lighthouse until morning: look after the lamp, and enter in the log what happens."
)
NUDGE = "Keep the lamp on the trawler"

_NAME = "lighthouse"
_LABELS = {"made-by": "sparkctl-demo"}
_COOLDOWN_SECONDS = 5
_PLAY_SECONDS = 120


async def demo(environment: Mapping[str, str], console: Console) -> None:
    """Show the agent at work until it is cancelled, with the commands that nudge it."""
    async with _quiet_services(environment) as running:
        try:
            await first_of(running.until_one_dies(), _present(running, environment, console))
        finally:
            console.out("Stopping …", highlight=False)


async def play(environment: Mapping[str, str], console: Console) -> None:
    """Play the demonstration without a person. Raises CommandFailed, naming what is missing."""
    async with _quiet_services(environment) as running:
        await first_of(running.until_one_dies(), _perform(running, console))
    console.out("demo: ok", highlight=False)


@asynccontextmanager
async def _quiet_services(environment: Mapping[str, str]) -> AsyncIterator[Services]:
    last_logs: deque[str] = deque(maxlen=10)
    try:
        async with services(
            environment, lambda name, line: last_logs.append(f"  {name} │ {line}")
        ) as running:
            yield running
    except ServiceDied as died:
        raise CommandFailed("\n".join([f"{died}; it said:", *last_logs])) from None


async def _present(running: Services, environment: Mapping[str, str], console: Console) -> None:
    addresses = running.addresses
    async with agent_service(addresses.agent) as agent:
        session, is_new = await _last_or_new(agent)
        console.out(_playbill(session, is_new, running, environment), highlight=False)
        after_revision = 0 if is_new else session.revision
        hint = f"nudge the agent: {hints.post(_NAME, NUDGE)}"
        async with aclosing(follow(agent, session.session_id, after_revision, include_deltas=True)) as news:
            await show(news, console, hint)


def _playbill(session: Session, is_new: bool, running: Services, environment: Mapping[str, str]) -> str:
    commands = [
        *hints.exports(running.addresses, environment),
        hints.grpcurl(session.session_id, NUDGE, running.addresses.gateway),
        hints.post(_NAME, NUDGE),
    ]
    return "\n".join(
        [
            f"Session {session.session_id}{'' if is_new else ' goes on where it stood'}.",
            "Nudge the agent from another terminal, in one of these ways:",
            "",
            *(f"  {command}" for command in commands),
            "",
            "Ctrl-C stops the services; the agent goes on at the next start.",
            "",
        ]
    )


async def _last_or_new(agent: AgentService) -> tuple[Session, bool]:
    """The session of the last demonstration, if it still works, or a new one; and whether it is new."""
    filters = ListSessionsRequest(states=[SessionState.SESSION_STATE_ACTIVE], labels=_LABELS)
    async with aclosing(sessions.listed(agent, filters)) as working:
        async for session in working:
            return session, False
    return await sessions.create(agent, _session()), True


def _session() -> Session:
    config = SessionConfig(model="demo", cooldown=Duration(seconds=_COOLDOWN_SECONDS))
    return Session(display_name=_NAME, goal=GOAL, config=config, labels=_LABELS)


async def _perform(running: Services, console: Console) -> None:
    async with agent_service(running.addresses.agent) as agent, gateway(running.addresses.gateway) as door:
        session = await sessions.create(agent, _session())
        performance = _Performance(agent, door, session.session_id, console)
        try:
            async with asyncio.timeout(_PLAY_SECONDS):
                await performance.run()
            missing = performance.missing()
        except TimeoutError:
            await sessions.end(agent, session.session_id)
            missing = [f"not over after {_PLAY_SECONDS} s", *performance.missing()]
    if missing:
        raise CommandFailed(f"the demonstration failed: {'; '.join(missing)}")


class _Performance:
    """Watches a session, nudges its agent between two tool calls, and ends it when the nudge is answered."""

    def __init__(self, agent: AgentService, door: Gateway, session_id: str, console: Console) -> None:
        self._agent, self._door, self._session_id = agent, door, session_id
        self._lines = Lines(console)
        self._story: Story | None = None

    async def run(self) -> None:
        async with aclosing(follow(self._agent, self._session_id, 0, include_deltas=False)) as news:
            async for piece in news:
                self._lines.print(piece)
                if not isinstance(piece, Notice):
                    for event in piece:
                        await self._react(event)

    def missing(self) -> list[str]:
        return self._story.missing() if self._story else ["the agent has not called a tool"]

    async def _react(self, event: Event) -> None:
        if self._story:
            self._story.hear(event)
            if event.HasField("turn_ended") and self._story.seen:
                await sessions.end(self._agent, self._session_id)
        elif event.HasField("tool_call_started"):
            nudge = Interrupt(session_id=self._session_id, source="operator", nudge=Nudge(text=NUDGE))
            self._story = Story((await post(self._door, nudge, request_id="")).interrupt)
