"""The tool calls of one reply: run side by side, each answered as soon as its tool is done."""

import asyncio
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from agent_service.domain import (
    DeltaKind,
    MessageType,
    NewMessage,
    Speaker,
    TextDelta,
    ToolCall,
    ToolResponse,
    Usage,
)
from agent_service.loop.interruption import Interruption, to_its_end
from agent_service.loop.work import Work
from agent_service.store.safe_points import SafePoints
from agent_service.store.transcript import Transcript
from agent_service.tools import Toolbox, ToolContext
from agent_service.wakeups import Wakeups

MAX_PARALLEL = 8
SKIPPED = "skipped: interrupted"
CANCELLED = "cancelled: interrupted"

# In the order of the calls.
_Running: TypeAlias = dict[asyncio.Task[ToolResponse], ToolCall]
_Tasks: TypeAlias = set[asyncio.Task[ToolResponse]]


@dataclass(frozen=True, slots=True)
class ToolRun:
    """Runs the tool calls of a reply. Holds nothing of any of them."""

    transcript: Transcript
    safe_points: SafePoints
    toolbox: Toolbox
    wakeups: Wakeups
    interruption: Interruption

    async def run(
        self, work: Work, calls: Sequence[ToolCall], max_bytes: int | None, skipped: str = SKIPPED
    ) -> None:
        """Answer the calls, each with at most so many bytes of a tool's output. Once an interrupt with
        immediate delivery waits, no further tool is started, which `skipped` says in its place, and those
        that allow it are cancelled.

        Raises LeaseLost and Unavailable. Then, and when it is cancelled itself, no tool goes on and nothing
        more is appended: the calls that are still open are for the session's next holder.
        """
        if not calls:
            return
        waiting, running, cancelled = deque(calls), _Running(), _Tasks()
        interrupt = asyncio.create_task(self.interruption.comes(work.lease, work.revision))
        try:
            while (waiting or running) and not await self._interrupted(work, interrupt, waiting):
                await self._start(work, waiting, running, max_bytes)
                await asyncio.wait({interrupt, *running}, return_when=asyncio.FIRST_COMPLETED)
                await self._append(work, _finished(running))
            if waiting or running:
                await self._break_off(work, waiting, running, cancelled, skipped)
        finally:
            await _stop({interrupt, *running}, cancelled)

    async def _interrupted(
        self, work: Work, interrupt: asyncio.Task[None], waiting: Collection[ToolCall]
    ) -> bool:
        """Whether an interrupt will not wait. Asked of the database before a tool is started."""
        if interrupt.done():
            interrupt.result()
            return True
        return bool(waiting) and await self.safe_points.immediate_waits(work.lease, work.revision)

    async def _start(
        self, work: Work, waiting: deque[ToolCall], running: _Running, max_bytes: int | None
    ) -> None:
        """Start what may run beside what runs already. That it starts is committed first."""
        calls = [waiting.popleft() for _ in range(min(len(waiting), MAX_PARALLEL - len(running)))]
        if calls:
            await self.transcript.start_tools(work.lease, work.place, calls)
        for call in calls:
            context = self._context(work, call)
            running[asyncio.create_task(self.toolbox.call(call, work.tools, context, max_bytes))] = call

    def _context(self, work: Work, call: ToolCall) -> ToolContext:
        """For a call of the round that is open. Whoever watches is shown its progress."""
        session_id, place, number = work.lease.session_id, work.place, _number(work, call)

        def progress(words: str) -> None:
            kind, speaker = DeltaKind.TOOL_PROGRESS, Speaker.ASSISTANT
            delta = TextDelta(place.turn, place.round, place.attempt, speaker, kind, number, words)
            self.wakeups.say(session_id, delta)

        return ToolContext(session_id, f"{place.turn}.{place.round}.{call.call_id}", progress)

    async def _break_off(
        self,
        work: Work,
        waiting: Collection[ToolCall],
        running: _Running,
        cancelled: _Tasks,
        skipped: str,
    ) -> None:
        """Answer what has not been started, cancel what allows it, and wait for the end of what runs."""
        for task, call in running.items():
            if self.toolbox.cancellable(call.name):
                cancelled.add(task)
                task.cancel()
        not_started = [unanswered(call, skipped) for call in waiting]
        await self._append(work, [*_finished(running), *not_started])
        async with self.interruption.of(work.lease, after_revision=None):
            while running:
                await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                await self._append(work, _finished(running))

    async def _append(self, work: Work, responses: Sequence[ToolResponse]) -> None:
        if responses:
            rows = [NewMessage(MessageType.TOOL_RESPONSE, response) for response in responses]
            work.append(
                await self.transcript.append(work.lease, work.next_position, work.place, rows, Usage())
            )


def _number(work: Work, call: ToolCall) -> int:
    """The place of a call among those of its reply."""
    turn, round = work.place.turn, work.place.round
    calls = [row.content for row in work.rows if (row.turn, row.round) == (turn, round)]
    return [content for content in calls if isinstance(content, ToolCall)].index(call)


def unanswered(call: ToolCall, why: str) -> ToolResponse:
    """The response of a call that has no outcome."""
    return ToolResponse(call.call_id, call.name, why, is_error=True)


def _finished(running: _Running) -> list[ToolResponse]:
    """Take out what is done."""
    finished = [(task, call) for task, call in running.items() if task.done()]
    for task, _ in finished:
        del running[task]
    return [unanswered(call, CANCELLED) if task.cancelled() else task.result() for task, call in finished]


async def _stop(tasks: Collection[asyncio.Task[object]], cancelled: Collection[object]) -> None:
    """Cancel the tasks and wait for their end. Those that were cancelled are left to tidy up."""
    for task in tasks:
        # Not by `cancelling`, which is also true of one that only meets a time limit of its own.
        if task not in cancelled:
            task.cancel()
    await to_its_end(_ended(tasks))


async def _ended(tasks: Collection[asyncio.Task[object]]) -> None:
    await asyncio.gather(*tasks, return_exceptions=True)
