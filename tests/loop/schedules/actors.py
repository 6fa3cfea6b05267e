"""A model and tools that do what a schedule says."""

import copy
import json
from collections import deque
from collections.abc import AsyncGenerator, Iterator, Sequence
from typing import Protocol

from agent_service.domain import JsonObject, RoundFailure, Usage
from agent_service.model import (
    INNER_VOICE_MARK,
    SUMMARY_MARK,
    Chunk,
    ModelError,
    Request,
    Served,
    ToolCallPiece,
    ToolSpec,
)
from agent_service.tools import ToolContext, ToolOutcome, Traits
from tests.loop.schedules.evidence import Asked, Asker
from tests.loop.schedules.outside import Outside
from tests.loop.schedules.plan import Act, Calls, Fails, Play, Says, SaysNothing, Schedule


class Stage(Protocol):
    @property
    def outside(self) -> Outside: ...

    async def does(self, acts: Sequence[Act], interruptible: bool) -> None:
        """Let it happen, to a worker that can be interrupted or not."""
        ...


class PlayingModel:
    def __init__(self, stage: Stage, schedule: Schedule) -> None:
        self._stage, self._outside = stage, stage.outside
        self._window, self._counts = schedule.window, schedule.counts
        self.served = Served("", "scripted", schedule.placement)
        self._plays = {
            Asker.AGENT: deque(schedule.agent),
            Asker.VOICE: deque(schedule.voice),
            Asker.SUMMARY: deque(schedule.summaries),
        }

    async def context_window(self) -> int | None:
        return self._window

    async def render(self, request: Request) -> str | None:
        return None

    async def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        by = _asker(request)
        session = await self._outside.session()
        await self._outside.look()
        kept = Request(copy.deepcopy(request.messages), request.tools)
        asked = Asked(by, kept, session.revision, session.next_position)
        self._outside.witness.asked.append(asked)

        interruptible = by is not Asker.SUMMARY and not session.interrupted
        play = self._plays[by].popleft() if self._plays[by] else Play()
        await self._stage.does(play.before, interruptible)
        for chunk in self._pieces(play.reply):
            first, asked.begun = not asked.begun, True
            yield chunk
            if first:
                await self._stage.does(play.after, interruptible)
        if isinstance(play.reply, Fails):
            too_long = play.reply.reason is RoundFailure.CONTEXT_OVERFLOW
            asked.refused = too_long and by is not Asker.SUMMARY
            raise ModelError(play.reply.reason, "as the schedule says")
        usage = Usage(len(json.dumps(request.messages)) // 4, 0, 10) if self._counts else None
        yield Chunk(usage=usage, begun=False)

    def _pieces(self, reply: Says | Calls | Fails | SaysNothing) -> Iterator[Chunk]:
        mark = self._outside.mark
        match reply:
            case Says(size, reasons):
                if reasons:
                    yield Chunk(reasoning="Hm.")
                yield Chunk(f"{mark()} ")
                yield Chunk("y" * size)
            case Calls(tools, says, broken):
                if says:
                    yield Chunk(f"{mark()} I call.")
                for index, name in enumerate(tools):
                    arguments = json.dumps({"text": mark(), "seconds": 3600})
                    yield Chunk(tool_calls=(ToolCallPiece(index, f"call {mark()}", name),))
                    yield Chunk(tool_calls=(ToolCallPiece(index, arguments=arguments[broken:]),))
            case Fails(late=True):
                yield Chunk("Oh")
            case Fails() | SaysNothing():
                pass


class ActingTool:
    def __init__(self, stage: Stage, plays: deque[Sequence[Act]], name: str, traits: Traits) -> None:
        """Of several tools the one that is called first takes the next of the plays."""
        self._stage, self._plays, self.traits = stage, plays, traits
        self.spec = ToolSpec(name, "", {"type": "object"})

    async def call(self, arguments: JsonObject, context: ToolContext) -> ToolOutcome:
        acts = self._plays.popleft() if self._plays else ()
        await self._stage.does(acts, interruptible=self.traits.cancellable)
        return ToolOutcome(f"{self._stage.outside.mark()} {'z' * 300}")


def _asker(request: Request) -> Asker:
    if INNER_VOICE_MARK in str(request.messages[0]["content"]):
        return Asker.VOICE
    return Asker.SUMMARY if SUMMARY_MARK in str(request.messages[-1]["content"]) else Asker.AGENT
