"""A session kept going by hand, with interrupts in every position, and what its server reads of it."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count, cycle, pairwise

from agent_service.model import INNER_VOICE_MARK, SUMMARY_MARK
from spark.agent.v1.agent_service_pb2 import EndSessionRequest, GetSessionRequest, ListInterruptsRequest
from spark.agent.v1.agent_service_pb2_grpc import AgentServiceStub
from spark.agent.v1.interrupt_pb2 import (
    DELIVERY_IMMEDIATE,
    DELIVERY_NEXT_TURN,
    Interrupt,
    InterruptState,
    Notification,
    Nudge,
)
from spark.agent.v1.session_pb2 import ACTIVITY_WAITING, Session
from spark.gateway.v1.gateway_service_pb2 import PostInterruptRequest
from spark.gateway.v1.gateway_service_pb2_grpc import GatewayServiceStub
from tests.servers.chat import Asked
from tests.servers.front import Figures, Front
from tests.support import until

# What comes while a request is open, and how it is answered; one request after another, over and over again.
# What comes `now` cancels the request.
OF_THE_AGENT = (
    "nudge call",
    "nudge fact nudge calls",
    "words+call",
    "now",
    "nudge calls",
    "call",
    "wait parked nudge",
    "nudge wait",
    "later call",
    "nudge now",
    "nudge answer",
    "answer",
)
OF_THE_VOICE = ("nudge answer", "now", "fact answer", "answer", "later answer")

_SOURCE = "service:optimizer"


@dataclass(frozen=True)
class Read:
    """A request as the server has read it."""

    messages: list[dict]
    figures: Figures

    @property
    def is_of_voice(self) -> bool:
        return INNER_VOICE_MARK in self.messages[0]["content"]

    @property
    def is_for_summary(self) -> bool:
        return SUMMARY_MARK in self.messages[-1]["content"]

    @property
    def opens_turn(self) -> bool:
        """Whether the agent is asked after the user, and not after itself."""
        if self.is_of_voice:
            return False
        speakers = [message["role"] for message in self.messages if message["role"] in ("user", "assistant")]
        return speakers[-1] == "user"

    @property
    def interrupts(self) -> int:
        return sum(message["content"].count(f"[{_SOURCE}]") for message in self.messages)


@dataclass
class LongSession:
    """Has a goal of its own, by which its requests are known. Ends with the context."""

    front: Front
    agent: AgentServiceStub
    gateway: GatewayServiceStub
    session: Session
    read: list[Read] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=count)
    _agent_steps: Iterator[str] = field(default_factory=lambda: cycle(OF_THE_AGENT))
    _voice_steps: Iterator[str] = field(default_factory=lambda: cycle(OF_THE_VOICE))

    async def __aenter__(self) -> "LongSession":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.agent.EndSession(EndSessionRequest(session_id=self.session.session_id))

    async def go_on(self, requests: int) -> None:
        for _ in range(requests):
            await self.go_on_with(await self.asked())

    async def asked(self) -> Asked:
        return await self.front.asked(self.session.goal)

    async def look_at(self, asked: Asked) -> Read:
        """Have the server read a request, which stays open."""
        read = Read(asked.messages, await self.front.figures(asked))
        self.read.append(read)
        return read

    async def go_on_with(self, asked: Asked) -> None:
        read = await self.look_at(asked)
        await asked.send(read.figures.event)
        if read.is_for_summary:
            step = "answer"
        else:
            step = next(self._voice_steps if read.is_of_voice else self._agent_steps)
        for word in step.split():
            await self._do(word, asked)

    async def _do(self, word: str, asked: Asked) -> None:
        has_tools = bool(asked.body.get("tools"))
        if word in ("nudge", "fact", "now", "later"):
            await self._post(word)
        elif word == "parked":
            # Where everything is text no tools are offered.
            if has_tools:
                await until(self._is_parked)
        else:
            await self._reply(word if has_tools else "answer", asked)

    async def _reply(self, word: str, asked: Asked) -> None:
        number = next(self._numbers)
        one, another = f"call{number:05}", f"note{number:05}"
        await asked.think(f"It is hour {number}, and the sea may rise before the night is over.")
        match word:
            case "call":
                await asked.call(one, "now", '{"tz": "UTC"}')
            case "words+call":
                await asked.say("I look at the clock.")
                await asked.call(one, "now", '{"tz": "UTC"}')
            case "calls":
                await asked.calls((one, "now", "{}"), (another, "note", '{"text": "The lamp is lit."}'))
            case "wait":
                await asked.call(one, "wait", '{"seconds": 3600}')
            case "answer":
                await asked.answer(f"Hour {number} is over.")

    async def _post(self, word: str) -> None:
        interrupt = Interrupt(session_id=self.session.session_id, source=_SOURCE)
        match word:
            case "now":
                interrupt.delivery = DELIVERY_IMMEDIATE
            case "later":
                interrupt.delivery = DELIVERY_NEXT_TURN
        if word == "fact":
            interrupt.notification.CopyFrom(Notification(type="lamp.dim", text="It is half as bright."))
        else:
            interrupt.nudge.CopyFrom(Nudge(text=f"Look at ship {next(self._numbers)}."))
        await self.gateway.PostInterrupt(PostInterruptRequest(interrupt=interrupt))

    async def _is_parked(self) -> bool:
        found = await self.agent.GetSession(GetSessionRequest(session_id=self.session.session_id))
        return found.session.activity == ACTIVITY_WAITING

    async def interrupts(self, *states: InterruptState) -> int:
        request = ListInterruptsRequest(session_id=self.session.session_id, states=states, page_size=500)
        return len((await self.agent.ListInterrupts(request)).interrupts)

    def read_again(self) -> list[tuple[Read, int]]:
        """Each request with the tokens of the one before it that were not at hand. Agent and inner voice are
        two conversations, and begin anew after a summary."""
        since_summary: list[list[Read]] = [[]]
        for read in self.read:
            since_summary[-1].append(read)
            if read.is_for_summary:
                since_summary.append([])
        return [
            (now, before.figures.prompt_tokens - now.figures.cached_tokens)
            for reads in since_summary
            for voice in (False, True)
            for before, now in pairwise(read for read in reads if read.is_of_voice == voice)
        ]
