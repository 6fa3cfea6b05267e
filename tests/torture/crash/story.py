"""What happens to a session, whoever dies meanwhile: what its model says, and what its clients do."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import count

from google.protobuf.message import Message

from agent_service.model import INNER_VOICE_MARK
from spark.agent.v1.agent_service_pb2 import (
    CreateSessionRequest,
    Deposit,
    DepositInterruptsRequest,
    EndSessionRequest,
)
from spark.agent.v1.interrupt_pb2 import Interrupt, Nudge
from spark.agent.v1.session_pb2 import SESSION_MODE_ON_INTERRUPT, Session, SessionConfig
from spark.gateway.v1.gateway_service_pb2 import PostInterruptRequest
from tests.torture.script import Call, Reply
from tests.torture.town import Town, goal

NAME = "lamp"
MARK = "marks_mark"

_ARGUMENTS = {"now": {}, "wait": {"seconds": 3600}, MARK: {"session": NAME, "call_id": "the call"}}


@dataclass(frozen=True)
class Plot:
    """An agent is told to begin, calls a tool, and answers; when all is quiet it is told goodbye."""

    tool: str
    # What it is told, all of it at once, while its model thinks before the call.
    meanwhile: tuple[str, ...] = ("Look north.", "Look south.")
    # Each of these has a coalesce key of its own.
    keys: bool = False
    # Its model says nothing before somebody has died.
    silent: bool = False
    # The session is ended before the call.
    ends: bool = False


@dataclass
class Story:
    """A script for the model server, and the part of the clients. They try again until they are answered."""

    plot: Plot
    # Set when the last one has died.
    dead: asyncio.Event = field(default_factory=asyncio.Event)
    _asked: asyncio.Event = field(default_factory=asyncio.Event)
    _told: asyncio.Event = field(default_factory=asyncio.Event)
    _numbers: count = field(default_factory=lambda: count(1))

    def reply(self, body: dict) -> Reply:
        """Every reply is another one."""
        messages, number = body["messages"], next(self._numbers)
        if INNER_VOICE_MARK in str(messages[0]):
            return Reply(f"Take step {number}.")
        if any(message["role"] == "tool" for message in messages):
            return Reply(f"That was step {number}.")
        self._asked.set()
        call = Call(f"call_{number}", self.plot.tool, json.dumps(_ARGUMENTS[self.plot.tool]))
        return Reply(f"I call {number}.", calls=(call,), when=self._told)

    async def play(self, clients: "Clients", until_at_rest: Callable[[], Awaitable[None]]) -> None:
        await clients.create(self.plot.tool.partition("_")[0])
        await clients.post("Begin.")
        await self._asked.wait()
        if self.plot.meanwhile:
            await clients.post(*self.plot.meanwhile, keys=self.plot.keys)
        if self.plot.ends:
            await clients.end()
        if self.plot.silent:
            await self.dead.wait()
        self._told.set()
        await until_at_rest()
        if not self.plot.ends:
            await clients.post("Goodbye.")


@dataclass
class Clients:
    """Posts go to agent services, as a gateway sends them, or to gateways where there are some."""

    town: Town
    _session_id: str = ""

    async def create(self, tool: str) -> None:
        config = SessionConfig(model="scripted", tools=[tool], mode=SESSION_MODE_ON_INTERRUPT)
        session = Session(display_name=NAME, goal=goal(NAME, "Keep the lamp."), config=config)
        answer = await self._ask("CreateSession", CreateSessionRequest(session=session, request_id=NAME))
        self._session_id = answer.session.session_id
        self.town.sessions[self._session_id] = NAME
        await self.town.unwatched.put(self._session_id)

    async def post(self, *texts: str, keys: bool = False) -> None:
        """All at once. The text is the request id."""
        nudges = [
            Interrupt(
                session_id=self._session_id,
                source="operator",
                nudge=Nudge(text=text),
                coalesce_key=text if keys else "",
            )
            for text in texts
        ]
        if self.town.doors.gateways:
            for nudge in nudges:
                post = PostInterruptRequest(interrupt=nudge, request_id=nudge.nudge.text)
                await self.town.ask_gateways("poster", "PostInterrupt", post)
        else:
            deposits = [Deposit(interrupt=nudge, request_id=nudge.nudge.text) for nudge in nudges]
            await self._ask("DepositInterrupts", DepositInterruptsRequest(deposits=deposits))

    async def end(self) -> None:
        await self._ask("EndSession", EndSessionRequest(session_id=self._session_id))

    async def _ask(self, method: str, request: Message) -> Message:
        answered = await self.town.ask_agents("client", method, request)
        assert answered.message, f"{method}: {answered.code}"
        return answered.message
