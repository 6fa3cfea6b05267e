"""What the clients share: the doors, the sessions, what was posted, and when it is enough."""

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from random import Random

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from spark.agent.v1.agent_service_pb2 import CreateSessionRequest
from spark.agent.v1.interrupt_pb2 import Interrupt, Nudge
from spark.agent.v1.session_pb2 import (
    SESSION_MODE_AUTONOMOUS,
    SESSION_MODE_ON_INTERRUPT,
    Session,
    SessionConfig,
)
from spark.gateway.v1.gateway_service_pb2 import PostInterruptRequest
from tests.torture.doors import Answered, Door, Doors
from tests.torture.history import History

TOOLS = ("now", "note", "wait", "marks", "tell")
# Of so many sessions one has llama.cpp for a model.
_ONE_IS_TINY = 12


@dataclass
class Town:
    history: History
    doors: Doors
    chance: Random
    # By id the names of those that nobody has ended.
    sessions: dict[str, str] = field(default_factory=dict)
    # The newest interrupts, by id.
    posted: deque[str] = field(default_factory=lambda: deque(maxlen=200))
    enough: asyncio.Event = field(default_factory=asyncio.Event)
    # A queue of sessions that nobody streams yet.
    unwatched: asyncio.Queue[str] = field(default_factory=asyncio.Queue)
    # The session of which a streamer has heard last.
    stirring: str = ""
    _numbers: Iterator[int] = field(default_factory=count)

    async def rest(self, seconds: float) -> None:
        """So long, unless it is enough before."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.enough.wait()

    def any_session(self) -> str:
        return self.chance.choice(list(self.sessions))

    def busy_session(self) -> str:
        """Where something has just happened, and something else may be about to."""
        return self.stirring if self.stirring in self.sessions else self.any_session()

    async def ask_agents(self, by: str, method: str, request: Message) -> Answered:
        """One after the other until somebody says what came of it."""
        return await self._ask(self.doors.agents, by, method, request)

    async def ask_gateways(self, by: str, method: str, request: Message) -> Answered:
        """One after the other until somebody says what came of it."""
        return await self._ask(self.doors.gateways, by, method, request)

    async def _ask(self, doors: Sequence[Door], by: str, method: str, request: Message) -> Answered:
        while True:
            answered = await self.chance.choice(doors).call(by, method, request)
            if not answered.is_unknown:
                return answered
            await asyncio.sleep(0.1)

    async def settle(self, by: str) -> None:
        """Make a session, and give it something to do."""
        number = next(self._numbers)
        name = f"s{number}"
        create = CreateSessionRequest(session=self._drawn(name, number), request_id=name)
        answered = await self.ask_agents(by, "CreateSession", create)
        session_id = answered.message.session.session_id
        self.sessions[session_id] = name
        await self.unwatched.put(session_id)
        begin = Interrupt(session_id=session_id, source="operator", nudge=Nudge(text="Begin."))
        post = PostInterruptRequest(interrupt=begin, request_id=name)
        await self.ask_gateways(by, "PostInterrupt", post)

    def _drawn(self, name: str, number: int) -> Session:
        tiny = number % _ONE_IS_TINY == _ONE_IS_TINY - 1
        config = SessionConfig(
            model="tiny" if tiny else "scripted",
            tools=["now"] if tiny else TOOLS,
            mode=SESSION_MODE_ON_INTERRUPT if number % 2 else SESSION_MODE_AUTONOMOUS,
            disable_inner_voice=self.chance.random() < 0.2,
            cooldown=Duration(seconds=self.chance.choice((0, 1, 2))),
            max_rounds_per_turn=12,
        )
        return Session(
            display_name=name,
            goal=goal(name, "Keep the lamp."),
            config=config,
            # Those that share one may tell each other things.
            labels={"house": "lighthouse"},
        )


def goal(name: str, words: str) -> str:
    return f"[goal:{name}] {words}"
