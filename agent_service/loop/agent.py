"""The loop of one turn: the inner voice speaks, then rounds until the model calls no more tools.

Whatever ends the work early is an exception: Released where the session may not go on, LeaseLost where it is
no longer ours, Unavailable where nobody knows whether a write happened, ModelError where a model request came
to nothing. After each of them the database says where the turn stands, and the next holder goes on there.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace

import structlog

from agent_service.domain import (
    INNER_VOICE_SOURCE,
    Lease,
    MessageType,
    NewMessage,
    RoundFailure,
    Speaker,
    Text,
    ToolCall,
    ToolResponse,
    Usage,
)
from agent_service.errors import ConfigNotFound, LeaseLost, Unavailable
from agent_service.loop import prompt
from agent_service.loop.conversation import voice_messages
from agent_service.loop.deltas import Deltas
from agent_service.loop.interruption import Interrupted, Interruption, to_its_end
from agent_service.loop.work import Work
from agent_service.model import Model, ModelError, Reply, ReplyFold, Request
from agent_service.store.safe_points import SafePoint, SafePoints
from agent_service.store.transcript import Transcript
from agent_service.tools import Toolbox
from agent_service.wakeups import Wakeups

_log = structlog.get_logger(__name__)

_NO_USAGE = Usage()
_MAX_PAUSE_SECONDS = 60.0
# A server may ask for more patience, but not for an agent that nobody can reach.
_MAX_RETRY_AFTER_SECONDS = 600.0
ORPHANED = "The outcome of this call is not known: the service stopped while it ran. It was not run again."
SKIPPED = "skipped: interrupted"


class Released(Exception):
    """The session was given back at a safe point: it is paused, or nothing is due."""


@dataclass(frozen=True, slots=True)
class Agent:
    """Runs sessions, each from its claim to its release. Holds nothing of any of them."""

    transcript: Transcript
    safe_points: SafePoints
    # The model of a name. Raises ConfigNotFound.
    model: Callable[[str], Model]
    toolbox: Toolbox
    wakeups: Wakeups
    interruption: Interruption
    # Set when the service is about to stop: turns then leave off at their next safe point, open.
    stopping: asyncio.Event

    async def run(self, lease: Lease) -> None:
        """Work until the turn ends or the session is given back. Raises Unavailable: then nobody knows what
        was written last, and the session is to be forgotten until it is claimed again."""
        log = _log.bind(session_id=str(lease.session_id), epoch=lease.epoch)
        try:
            await self._work(lease)
        except Released:
            pass
        except LeaseLost:
            log.info("lease lost")
        except Unavailable:
            raise
        except asyncio.CancelledError:
            await to_its_end(self._give_back(lease))
            raise
        except Exception:
            # Not even told: at least it is not tried again at every poll.
            log.exception("session set aside", seconds=_MAX_PAUSE_SECONDS)
            await self.transcript.set_aside(lease, _MAX_PAUSE_SECONDS)

    async def _work(self, lease: Lease) -> None:
        work = Work.of(lease, await self.transcript.load(lease), self.toolbox)
        try:
            await self._turn(work)
        except ModelError as error:
            await self._fail_round(work, error)
        except (Released, LeaseLost, Unavailable):
            raise
        except Exception:
            _log.exception("turn failed", session_id=str(lease.session_id))
            await self._fail_round(work, ModelError(RoundFailure.INTERNAL, "the service failed"))

    async def _turn(self, work: Work) -> None:
        await self._stop_here(work)
        if not work.turn_open:
            await self._enter(work, self.safe_points.begin_turn(work.lease, work.next_position, work.frozen))
            await self._inner_voice(work)
        elif orphans := work.open_calls:
            await self._append_responses(work, [_unanswered(call, ORPHANED) for call in orphans])
        elif not work.voice_has_spoken:
            await self._enter(work, self.safe_points.begin_voice_again(work.lease, work.next_position))
            await self._inner_voice(work)
        while True:
            await self._stop_here(work)
            await self._enter(
                work, self.safe_points.begin_round(work.lease, work.next_position, work.next_round)
            )
            reply = await self._ask(work, Speaker.ASSISTANT)
            if not reply.tool_calls:
                await self._append_answer(work, reply)
                return
            await self._append_reply(work, reply)
            await self._run_tools(work)

    async def _stop_here(self, work: Work) -> None:
        """Give the session back at a safe point if the service is about to stop."""
        if self.stopping.is_set():
            await self.transcript.release(work.lease)
            raise Released

    async def _enter(self, work: Work, safe_point: Awaitable[SafePoint | None]) -> None:
        point = await safe_point
        if point is None:
            raise Released
        work.enter(point)

    async def _inner_voice(self, work: Work) -> None:
        """Let the inner voice write the user row."""
        words, usage = "", _NO_USAGE
        if not work.session.config.disable_inner_voice:
            reply = await self._ask(work, Speaker.INNER_VOICE)
            words, usage = reply.text.strip(), reply.usage
        row = NewMessage(MessageType.USER, Text(words or prompt.EMPTY_ANSWER), INNER_VOICE_SOURCE)
        work.append(await self.transcript.append(work.lease, work.next_position, work.place, [row], usage))

    async def _ask(self, work: Work, speaker: Speaker) -> Reply:
        """Ask a model. If an interrupt with immediate delivery comes first, deliver it and ask again: only
        once, so that the agent answers at last however often somebody posts."""
        fold = ReplyFold()
        request = self._request(work, speaker)
        try:
            async with self.interruption.of(work.lease):
                return await self._stream(work, speaker, request, fold)
        except Interrupted:
            await self.transcript.interrupt_round(work.lease, work.place, _estimate(request, fold))
        position = work.next_position
        if speaker is Speaker.ASSISTANT:
            again = self.safe_points.begin_round(work.lease, position, work.place.round)
        else:
            again = self.safe_points.begin_voice_again(work.lease, position)
        await self._enter(work, again)
        async with self.interruption.of(work.lease, immediate=False):
            return await self._stream(work, speaker, self._request(work, speaker), ReplyFold())

    def _request(self, work: Work, speaker: Speaker) -> Request:
        if speaker is Speaker.ASSISTANT:
            return Request(work.messages(), work.tools)
        session, tag = work.session, work.frame_tag
        instruction = prompt.inner_voice_prompt(session.goal, tag, session.config.inner_voice_prompt)
        return Request(voice_messages(instruction, prompt.OPENING_LINE, tag, work.rows))

    async def _stream(self, work: Work, speaker: Speaker, request: Request, fold: ReplyFold) -> Reply:
        """Show a model's words as they come. What the agent's request contains is seen at the first chunk of
        the reply, which is committed before anything of the answer is."""
        shown = bool(work.unseen) and speaker is Speaker.ASSISTANT
        deltas = Deltas(work.place, speaker)
        async with aclosing(self._model(work, speaker).stream(request)) as chunks:
            async for chunk in chunks:
                if chunk.begun and shown and work.unseen:
                    await to_its_end(self._see(work))
                fold.add(chunk)
                for delta in deltas.of(chunk):
                    self.wakeups.say(work.lease.session_id, delta)
        if shown and work.unseen:
            raise ModelError(RoundFailure.BAD_REPLY, "the model's reply was empty")
        reply = fold.reply()
        return replace(reply, usage=replace(reply.usage, model_requests=1))

    async def _see(self, work: Work) -> None:
        await self.transcript.see(work.lease, work.unseen)
        work.unseen.clear()

    async def _append_reply(self, work: Work, reply: Reply) -> None:
        rows = _words(reply) if reply.text or reply.reasoning else []
        rows += [NewMessage(MessageType.TOOL_CALL, call) for call in reply.tool_calls]
        work.append(
            await self.transcript.append_reply(work.lease, work.next_position, work.place, rows, reply.usage)
        )

    async def _append_answer(self, work: Work, reply: Reply) -> None:
        rows = _words(reply)
        await self.transcript.append_answer(work.lease, work.next_position, work.place, rows, reply.usage)

    async def _run_tools(self, work: Work) -> None:
        """Run what the model asked for. Calls not yet started are skipped when an interrupt will not wait."""
        while calls := work.open_calls:
            if await self.safe_points.immediate_waits(work.lease):
                await self._append_responses(work, [_unanswered(call, SKIPPED) for call in calls])
                return
            await self.transcript.start_tools(work.lease, work.place, calls[:1])
            await self._append_responses(work, [await self.toolbox.call(calls[0], work.tools)])

    async def _append_responses(self, work: Work, responses: list[ToolResponse]) -> None:
        rows = [NewMessage(MessageType.TOOL_RESPONSE, response) for response in responses]
        work.append(await self.transcript.append(work.lease, work.next_position, work.place, rows, _NO_USAGE))

    async def _fail_round(self, work: Work, error: ModelError) -> None:
        """Tell that a round came to nothing, and leave the session alone for a while."""
        _log.warning(
            "round failed",
            session_id=str(work.lease.session_id),
            turn=work.place.turn,
            round=work.place.round,
            attempt=work.place.attempt,
            reason=error.reason.value,
            detail=error.detail,
        )
        pause = _pause_seconds(work.place.attempt, error)
        await self.transcript.fail_round(work.lease, work.place, error.reason, error.detail, pause)

    async def _give_back(self, lease: Lease) -> None:
        """Release the session in the middle of something, if it is still ours."""
        try:
            await self.transcript.release(lease)
        except (LeaseLost, Unavailable):
            return

    def _model(self, work: Work, speaker: Speaker) -> Model:
        config = work.session.config
        of_voice = config.inner_voice_model if speaker is Speaker.INNER_VOICE else ""
        try:
            return self.model(of_voice or config.model)
        except ConfigNotFound as error:
            raise ModelError(RoundFailure.MODEL_REFUSED, str(error)) from None


def _words(reply: Reply) -> list[NewMessage]:
    return [NewMessage(MessageType.ASSISTANT, Text(reply.text), reasoning=reply.reasoning)]


def _unanswered(call: ToolCall, why: str) -> ToolResponse:
    return ToolResponse(call.call_id, call.name, why, is_error=True)


def _estimate(request: Request, fold: ReplyFold) -> Usage:
    """What a cancelled request may have cost: a token is about four characters."""
    asked = sum(len(str(message.get("content", ""))) for message in request.messages)
    return Usage(input_tokens=asked // 4, output_tokens=len("".join(fold.text + fold.reasoning)) // 4)


def _pause_seconds(attempt: int, error: ModelError) -> float:
    """How long to leave a model alone: longer after each attempt, never all sessions at the same moment."""
    longest = min(2.0 ** min(attempt - 1, 10), _MAX_PAUSE_SECONDS)
    asked_for = min(error.retry_after_seconds or 0, _MAX_RETRY_AFTER_SECONDS)
    return max(asked_for, longest * random.uniform(0.5, 1))  # noqa: S311
