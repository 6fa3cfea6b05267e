"""The loop of one turn: the inner voice speaks, then rounds until the model calls no more tools.

Whatever ends the work early is an exception: Released where the session may not go on, LeaseLost where it is
no longer ours, Unavailable where nobody knows whether a write happened, ModelError where a model request came
to nothing. After each of them the database says where the turn stands, and the next holder goes on there.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

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
    cut,
)
from agent_service.errors import LeaseLost, Unavailable
from agent_service.loop import prompt
from agent_service.loop.asker import Asker
from agent_service.loop.compaction import Compactor
from agent_service.loop.interruption import Interrupted, Interruption, to_its_end
from agent_service.loop.profiles import Profiles
from agent_service.loop.refusal import Refusals
from agent_service.loop.spread import Spread
from agent_service.loop.tool_run import ToolRun
from agent_service.loop.work import Work
from agent_service.model import Model, ModelError, Reply
from agent_service.store.leases import Claim
from agent_service.store.room import Room
from agent_service.store.safe_points import SafePoint, SafePoints, Wait
from agent_service.store.transcript import Transcript
from agent_service.tools import Toolbox
from agent_service.wakeups import Wakeups

_log = structlog.get_logger(__name__)

_NO_USAGE = Usage()
# So many attempts at a round, of which the last was too long with nothing left to leave out, are enough.
MAX_OVERFLOWS = 5
NO_ROOM = """\
nothing is left that could be left out, and the model's context is still too short: {detail}; give the model \
a longer one, or the session another model, a shorter goal or fewer tools, and resume it"""
_MAX_PAUSE_SECONDS = 60.0
# A server may ask for more patience, but not for an agent that nobody can reach.
_MAX_RETRY_AFTER_SECONDS = 600.0
ORPHANED = "The outcome of this call is not known: the service stopped while it ran. It was not run again."
WOKEN = "Woken by a message from outside."
TIME_IS_UP = "The time is up."


class Released(Exception):
    """The session was given back at a safe point: it is paused, it waits, or nothing is due."""


@dataclass(frozen=True, slots=True)
class Agent:
    """Runs sessions, each from its claim to its release. Holds nothing of any of them."""

    transcript: Transcript
    safe_points: SafePoints
    room: Room
    asker: Asker
    compactor: Compactor
    refusals: Refusals
    tool_run: ToolRun
    profiles: Profiles
    toolbox: Toolbox
    # Says at a safe point whether another replica is to go on from there.
    spread: Spread
    # Set when the service is about to stop: turns then leave off at their next safe point, open.
    stopping: asyncio.Event

    @classmethod
    def of(
        cls,
        transcript: Transcript,
        safe_points: SafePoints,
        room: Room,
        model: Callable[[str], Model],
        profiles: Profiles,
        toolbox: Toolbox,
        wakeups: Wakeups,
        interruption: Interruption,
        spread: Spread,
        stopping: asyncio.Event,
    ) -> "Agent":
        """An agent of these parts. `model` gives the model of a name, or raises ConfigNotFound."""
        asker = Asker(transcript, room, model, wakeups, interruption)
        tool_run = ToolRun(transcript, safe_points, toolbox, wakeups, interruption)
        compactor = Compactor(transcript, asker)
        refusals = Refusals(transcript, room, asker, compactor, profiles)
        return cls(
            *(transcript, safe_points, room, asker, compactor, refusals, tool_run),
            *(profiles, toolbox, spread, stopping),
        )

    async def run(self, claim: Claim) -> None:
        """Work until the turn ends or the session is given back. Raises Unavailable: then nobody knows what
        was written last, and the session is to be forgotten until it is claimed again."""
        lease = claim.lease
        log = _log.bind(session_id=str(lease.session_id), epoch=lease.epoch)
        try:
            await self._work(claim)
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

    async def _work(self, claim: Claim) -> None:
        snapshot = await self.transcript.load(claim)
        work = Work.of(claim.lease, snapshot, self.toolbox, self.profiles.known)
        try:
            await self._turn(work)
        except ModelError as error:
            await self._fail_round(work, error)
        except (Released, LeaseLost, Unavailable):
            raise
        except Exception:
            _log.exception("turn failed", session_id=str(claim.lease.session_id))
            await self._fail_round(work, ModelError(RoundFailure.INTERNAL, "the service failed"))

    async def _turn(self, work: Work) -> None:
        work.window = await self.asker.window(work)
        await self._stop_here(work)
        await self.toolbox.ready({*work.config.tools, *work.session.config.tools})
        await self._learn(work)
        if not work.turn_open:
            await self._begin_turn(work)
            await self._inner_voice(work)
        elif work.open_calls or work.wait:
            await self._take_up(work)
        elif not work.voice_has_spoken:
            await self._begin_voice_again(work)
            await self._inner_voice(work)
        while True:
            await self._stop_here(work)
            await self.compactor.keep_room(work)
            await self._begin_round(work)
            reply = await self._ask(work, Speaker.ASSISTANT, self._begin_round)
            if not reply.tool_calls:
                await self._append_answer(work, reply)
                return
            await self._append_reply(work, reply)
            await self._run_tools(work)

    async def _learn(self, work: Work) -> None:
        """Find out where the models take interrupts. Where that was not to be had when the turn began, it is
        decided now."""
        await self._renew(work)
        await self.profiles.learn(work.models)
        if work.turn_open and (terms := work.decided_terms()) != work.terms:
            await self.profiles.place_again(work, terms)

    async def _renew(self, work: Work) -> None:
        """Let an open turn go on with what the session was given since it began: where the session was
        resumed, or a model of the turn is configured no longer."""
        has, models = self.profiles.has, work.session.config.models
        outdated = work.terms_outdated or (work.turn_open and not has(work.models))
        if outdated and has(models):
            await self.profiles.learn(models)
            await self.profiles.place_again(work, work.next_terms(work.session))
            work.window = await self.asker.window(work)

    async def _stop_here(self, work: Work) -> None:
        """Give the session back at a safe point if the service is about to stop, or hand it over to a replica
        that has fewer."""
        taker = self.spread.next_taker()
        if taker or self.stopping.is_set():
            await self.transcript.release(work.lease, taker)
            raise Released

    # ---- safe points

    async def _begin_turn(self, work: Work) -> None:
        await self._enter(
            work, self.safe_points.begin_turn(work.lease, work.found, work.next_terms, work.admit)
        )
        work.window = await self.asker.window(work)

    async def _begin_voice_again(self, work: Work) -> None:
        await self._enter(
            work, self.safe_points.begin_voice_again(work.lease, work.next_position, work.admit)
        )

    async def _begin_round(self, work: Work) -> None:
        await self._enter(
            work, self.safe_points.begin_round(work.lease, work.next_position, work.next_round, work.admit)
        )

    async def _enter(self, work: Work, safe_point: Awaitable[SafePoint | None]) -> None:
        point = await safe_point
        if point is None:
            raise Released
        work.enter(point)

    # ---- the inner voice and the agent

    async def _inner_voice(self, work: Work) -> None:
        """Let the inner voice write the user row."""
        words, usage = "", _NO_USAGE
        if not work.config.disable_inner_voice:
            await self.compactor.keep_room(work)
            reply = await self._ask(work, Speaker.INNER_VOICE, self._begin_voice_again)
            words, usage = cut(reply.text.strip(), work.window.summary_bytes), reply.usage
        row = NewMessage(MessageType.USER, Text(words or prompt.EMPTY_ANSWER), INNER_VOICE_SOURCE)
        work.append(await self.transcript.append(work.lease, work.next_position, work.place, [row], usage))

    async def _ask(
        self, work: Work, speaker: Speaker, safe_point: Callable[[Work], Awaitable[None]]
    ) -> Reply:
        """Ask, and ask again from the safe point after an interrupt with immediate delivery, or when what a
        request was refused for is overcome."""
        while True:
            try:
                return await self.asker.reply(work, speaker)
            except Interrupted:
                pass
            except ModelError as error:
                if not await self.refusals.overcome(work, speaker, error):
                    raise
            await safe_point(work)

    async def _append_reply(self, work: Work, reply: Reply) -> None:
        rows = _words(reply) if reply.text or reply.reasoning else []
        rows += self._calls(work, reply.tool_calls)
        work.append(
            await self.transcript.append_reply(work.lease, work.next_position, work.place, rows, reply.usage)
        )
        work.context_tokens = reply.usage.input_tokens + reply.usage.output_tokens

    async def _append_answer(self, work: Work, reply: Reply) -> None:
        rows = _words(reply)
        await self.transcript.append_answer(work.lease, work.next_position, work.place, rows, reply.usage)

    # ---- tools

    def _calls(self, work: Work, calls: tuple[ToolCall, ...]) -> list[NewMessage]:
        """The calls as rows. The first valid one of the tool `wait` is the wait; there is no other."""
        seconds = [self.toolbox.wait_seconds(call, work.tools) for call in calls]
        wait = next((n for n, asked in enumerate(seconds) if asked is not None), None)
        return [
            NewMessage(MessageType.TOOL_CALL, call, wait_seconds=seconds[n] if n == wait else None)
            for n, call in enumerate(calls)
        ]

    async def _run_tools(self, work: Work) -> None:
        """Run what the model asked for, and then wait if that is among it."""
        calls = work.open_calls
        await self.tool_run.run(work, calls, work.window.tool_bytes(len(calls)))
        if work.wait:
            _, deadline = work.wait
            await self.transcript.park(work.lease, deadline)
            raise Released

    async def _take_up(self, work: Work) -> None:
        """Go on in the middle of tool calls: those whose outcome is lost are told so, or run again where that
        is safe, and a wait ends or goes on."""
        again = [call for call in work.open_calls if self.toolbox.repeatable(call.name)]
        await self.tool_run.run(work, again, work.window.tool_bytes(len(again)), skipped=ORPHANED)
        lost = [_response(call, ORPHANED, is_error=True) for call in work.open_calls]
        if lost or work.wait:
            wait = _wait(*work.wait) if work.wait else None
            await self._enter(
                work, self.safe_points.repair(work.lease, work.next_position, lost, wait, work.admit)
            )

    # ---- when it comes to nothing

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
        if error.reason is RoundFailure.CONTEXT_OVERFLOW and work.place.attempt >= MAX_OVERFLOWS:
            await self.transcript.fail_request(work.lease, work.place, error.reason, error.detail, error.cost)
            await self.room.give_up(work.lease, NO_ROOM.format(detail=error.detail))
            return
        pause = _pause_seconds(work.place.attempt, error)
        told = error.reason, error.detail, error.cost
        await self.transcript.fail_round(work.lease, work.place, *told, pause)

    async def _give_back(self, lease: Lease) -> None:
        """Release the session in the middle of something, if it is still ours."""
        try:
            await self.transcript.release(lease)
        except (LeaseLost, Unavailable):
            return


def _words(reply: Reply) -> list[NewMessage]:
    return [NewMessage(MessageType.ASSISTANT, Text(reply.text), reasoning=reply.reasoning)]


def _wait(call: ToolCall, deadline: datetime) -> Wait:
    """A wait with the two ways in which it can end."""
    return Wait(deadline, _response(call, WOKEN), _response(call, TIME_IS_UP))


def _response(call: ToolCall, words: str, is_error: bool = False) -> NewMessage:
    return NewMessage(MessageType.TOOL_RESPONSE, ToolResponse(call.call_id, call.name, words, is_error))


def _pause_seconds(attempt: int, error: ModelError) -> float:
    """How long to leave a model alone: longer after each attempt, never all sessions at the same moment."""
    longest = min(2.0 ** min(attempt - 1, 10), _MAX_PAUSE_SECONDS)
    asked_for = min(error.retry_after_seconds or 0, _MAX_RETRY_AFTER_SECONDS)
    return max(asked_for, longest * random.uniform(0.5, 1))  # noqa: S311
