"""What happens to a session, whoever dies meanwhile: what its model says, and what its clients do."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from itertools import count

from google.protobuf.message import Message

from agent_service.model import INNER_VOICE_MARK, SUMMARY_MARK
from spark.agent.v1.agent_service_pb2 import (
    CancelInterruptRequest,
    CreateSessionRequest,
    Deposit,
    DepositInterruptsRequest,
    EndSessionRequest,
    PauseSessionRequest,
    ResumeSessionRequest,
)
from spark.agent.v1.interrupt_pb2 import DELIVERY_IMMEDIATE, Delivery, Interrupt, Nudge
from spark.agent.v1.session_pb2 import SESSION_MODE_ON_INTERRUPT, Session, SessionConfig
from spark.gateway.v1.gateway_service_pb2 import PostInterruptRequest
from tests.torture.script import Call, Reply, overflow, session_name
from tests.torture.town import Town, goal

NAME, PEER = "lamp", "horn"
MARK = "marks_mark"

_ARGUMENTS = {
    "now": {},
    "wait": {"seconds": 3600},
    "tell": {"session": PEER, "text": "The lamp is lit."},
    MARK: {"session": NAME, "call_id": "the call"},
}
_SUMMARY = "That was all."


@dataclass
class Clients:
    """Posts go to agent services, as a gateway sends them, or to gateways where there are some."""

    town: Town
    _session_id: str = ""

    async def create(self, name: str, tools: Sequence[str] = ()) -> None:
        """What comes after it is about this session."""
        session = Session(
            display_name=name,
            goal=goal(name, "Keep the lamp."),
            config=SessionConfig(model="scripted", tools=tools, mode=SESSION_MODE_ON_INTERRUPT),
            labels={"house": "lighthouse"},
        )
        answer = await self._ask("CreateSession", CreateSessionRequest(session=session, request_id=name))
        self._session_id = answer.session.session_id
        self.town.sessions[self._session_id] = name
        await self.town.unwatched.put(self._session_id)

    async def post(self, *texts: str, keys: bool = False, delivery: Delivery | None = None) -> list[str]:
        """All at once. The text is the request id, and with `keys` the coalesce key. Gives their ids, where
        no gateway is asked."""
        nudges = [
            Interrupt(
                session_id=self._session_id,
                source="operator",
                nudge=Nudge(text=text),
                coalesce_key=text if keys else "",
                delivery=delivery,
            )
            for text in texts
        ]
        if self.town.doors.gateways:
            for nudge in nudges:
                post = PostInterruptRequest(interrupt=nudge, request_id=nudge.nudge.text)
                await self.town.ask_gateways("poster", "PostInterrupt", post)
            return []
        deposits = [Deposit(interrupt=nudge, request_id=nudge.nudge.text) for nudge in nudges]
        answer = await self._ask("DepositInterrupts", DepositInterruptsRequest(deposits=deposits))
        return [result.interrupt.interrupt_id for result in answer.results]

    async def cancel(self, interrupt_id: str) -> None:
        """Or come too late."""
        cancel = CancelInterruptRequest(interrupt_id=interrupt_id)
        await self.town.ask_agents("client", "CancelInterrupt", cancel)

    async def pause(self) -> None:
        await self._ask("PauseSession", PauseSessionRequest(session_id=self._session_id))

    async def resume(self) -> None:
        await self._ask("ResumeSession", ResumeSessionRequest(session_id=self._session_id))

    async def end(self) -> None:
        await self._ask("EndSession", EndSessionRequest(session_id=self._session_id))

    async def _ask(self, method: str, request: Message) -> Message:
        answered = await self.town.ask_agents("client", method, request)
        assert answered.message, f"{method}: {answered.code}"
        return answered.message


async def nothing(_: Clients) -> None:
    pass


async def tell_two_things(clients: Clients) -> None:
    await clients.post("Look north.", "Look south.")


async def tell_two_things_with_keys(clients: Clients) -> None:
    await clients.post("Look north.", "Look south.", keys=True)


async def interrupt(clients: Clients) -> None:
    await clients.post("Look north.", "Look south.", delivery=DELIVERY_IMMEDIATE)


async def take_one_of_two_back(clients: Clients) -> None:
    _, south = await clients.post("Look north.", "Look south.")
    await clients.cancel(south)


async def say_goodbye(clients: Clients) -> None:
    await clients.post("Goodbye.")


@dataclass(frozen=True)
class Plot:
    """An agent is told to begin, calls a tool, and answers."""

    tool: str
    # What its clients do while its model thinks before the call, and when all is quiet.
    meanwhile: Callable[[Clients], Awaitable[None]] = tell_two_things
    at_last: Callable[[Clients], Awaitable[None]] = say_goodbye
    # Its model says nothing before somebody has died.
    silent: bool = False
    # Its model is interrupted before the call.
    interrupted: bool = False
    # What follows the call is too long for its model.
    too_long: bool = False


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
        if SUMMARY_MARK in str(messages[-1]):
            return Reply(_SUMMARY)
        called, summed_up = any(one["role"] == "tool" for one in messages), _SUMMARY in str(messages)
        if self.plot.too_long and called and not summed_up:
            return overflow()
        if called or summed_up or session_name(body) == PEER:
            return Reply(f"That was step {number}.")
        self._asked.set()
        call = Call(f"call_{number}", self.plot.tool, json.dumps(_ARGUMENTS[self.plot.tool]))
        return Reply(f"I call {number}.", calls=(call,), when=self._told)

    async def play(self, clients: Clients, until_at_rest: Callable[[], Awaitable[None]]) -> None:
        if self.plot.tool == "tell":
            await clients.create(PEER)
        await clients.create(NAME, [self.plot.tool.partition("_")[0]])
        await clients.post("Begin.")
        await self._asked.wait()
        self._asked.clear()
        await self.plot.meanwhile(clients)
        if self.plot.interrupted:
            await self._asked.wait()
        if self.plot.silent:
            await self.dead.wait()
        self._told.set()
        await until_at_rest()
        await self.plot.at_last(clients)
