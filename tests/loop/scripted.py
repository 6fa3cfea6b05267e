"""A model that says what a test wants, and keeps every request that it was asked."""

import asyncio
import copy
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from agent_service.domain import JsonObject, Placement, ReplicaId, RoundFailure, SessionId, Usage
from agent_service.loop.agent import Agent
from agent_service.loop.interruption import Interruption
from agent_service.loop.profiles import Profiles
from agent_service.loop.spread import Spread
from agent_service.model import (
    INNER_VOICE_MARK,
    SUMMARY_MARK,
    Chunk,
    Model,
    ModelError,
    Request,
    Served,
    ToolCallPiece,
)
from agent_service.store.leases import Claim
from agent_service.tools import Tool, Toolbox
from agent_service.tools.builtin import builtin_tools
from tests.support import Store

# A piece of a reply; or what is done, or goes wrong, at this point of it.
Piece = Chunk | BaseException | Callable[[], Awaitable[object]]
Script = Sequence[Piece]


SCRIPT_OVER = ModelError(RoundFailure.MODEL_UNAVAILABLE, "the script is over")


class Killed(BaseException):
    """The process dies here: nothing more of it happens, and nothing is tidied up."""


async def die() -> None:
    raise Killed


def says(text: str) -> Script:
    """A reply in two chunks."""
    middle = len(text) // 2
    return [Chunk(text[:middle]), Chunk(text[middle:]), Chunk(usage=Usage(100, 50, 10), begun=False)]


def calls(*names: str, arguments: str = "{}", text: str = "") -> Script:
    """A reply with tool calls, in pieces."""
    pieces = [Chunk(text)] if text else []
    for index, name in enumerate(names):
        pieces.append(Chunk(tool_calls=(ToolCallPiece(index, f"{name}_{index}", name),)))
        pieces.append(Chunk(tool_calls=(ToolCallPiece(index, arguments=arguments),)))
    return pieces


class TakesSystemMessages:
    """What most models of tests are: where their interrupts go, nobody has to find out."""

    served = Served("", "scripted", Placement.SYSTEM)

    async def render(self, request: Request) -> str | None:
        return None


@dataclass
class ScriptedModel(TakesSystemMessages):
    """Plays one script for each request: of the agent in order, of the inner voice while there are any, then
    always the same line."""

    agent: list[Script]
    voice: list[Script] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    voice_requests: list[Request] = field(default_factory=list)
    # Played for requests of a summary; none: it comes to nothing.
    summaries: list[Script] = field(default_factory=list)
    summary_requests: list[Request] = field(default_factory=list)
    window: int | None = None

    async def context_window(self) -> int | None:
        return self.window

    async def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        kept = Request(copy.deepcopy(request.messages), request.tools)
        if INNER_VOICE_MARK in str(request.messages[0]["content"]):
            self.voice_requests.append(kept)
            script = self.voice.pop(0) if self.voice else says("Go on.")
        elif SUMMARY_MARK in str(request.messages[-1]["content"]):
            self.summary_requests.append(kept)
            script = self.summaries.pop(0) if self.summaries else [SCRIPT_OVER]
        else:
            self.requests.append(kept)
            script = self.agent.pop(0) if self.agent else [SCRIPT_OVER]
        for piece in script:
            if isinstance(piece, BaseException):
                raise piece
            if isinstance(piece, Chunk):
                yield piece
            else:
                await piece()

    @property
    def sent(self) -> list[Sequence[JsonObject]]:
        """The messages of each request of the agent."""
        return [request.messages for request in self.requests]


def agent(
    store: Store, model: Model, stopping: asyncio.Event | None = None, tools: Sequence[Tool] = ()
) -> Agent:
    return Agent.of(
        store.transcript,
        store.safe_points,
        store.room,
        lambda name: model,
        Profiles(lambda name: model, store.model_profiles),
        Toolbox([*builtin_tools(), *tools], max_output_bytes=1000, timeout_seconds=60),
        store.wakeups,
        Interruption(store.safe_points, store.wakeups, poll_seconds=0.2),
        Spread(),
        stopping or asyncio.Event(),
    )


async def run_turn(store: Store, session_id: SessionId, model: Model) -> None:
    """Claim the session and run it until it is released."""
    await agent(store, model).run(await store.take(session_id))


async def run_and_die(store: Store, session_id: SessionId, model: Model) -> ReplicaId:
    """Claim the session and run it in a process that dies on the way."""
    replica = await store.replica()
    (claim,) = await store.leases.claim_due(replica, 1)
    assert claim.lease.session_id == session_id
    try:
        await agent(store, model).run(claim)
    except Killed:
        await store.leases.sign_off(replica)
        return replica
    raise AssertionError("it lived")


async def take_over(store: Store, session_id: SessionId) -> Claim:
    (claim,) = await store.leases.claim_from_dead(await store.replica(), 1)
    assert claim.lease.session_id == session_id
    return claim
