"""Compaction: a summary takes the place of older rows, which stay in the database.

It cuts at a round's boundary and never covers what is not yet answered.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import structlog

from agent_service.domain import (
    Message,
    MessageType,
    NewMessage,
    Place,
    Placement,
    Profile,
    RoundFailure,
    Text,
    ToolCall,
    ToolResponse,
    cut,
    storable,
)
from agent_service.loop import prompt
from agent_service.loop.asker import Asker
from agent_service.loop.conversation import agent_messages, words
from agent_service.loop.placement import placed
from agent_service.loop.window import size
from agent_service.loop.work import REPLY_TYPES, Work
from agent_service.model import ModelError, Reply, Request
from agent_service.store.transcript import Compaction, Transcript
from agent_service.tools.builtin import Note

_log = structlog.get_logger(__name__)

# A compaction that would win less than this share of the window is left alone.
LEAST_GAIN = 0.1


@dataclass(frozen=True, slots=True)
class Compactor:
    transcript: Transcript
    asker: Asker

    async def keep_room(self, work: Work) -> None:
        """Compact if the context is nearly full. While the model's server cannot be reached nothing is lost
        by waiting: a request that is too long is refused, and then something has to go."""
        if work.window.tokens is None or not work.window.nearly_full(work.context_used):
            return
        count = covered_rows(work.rows)
        # What an earlier summary says is said again.
        won = [row for row in work.rows[:count] if row.type is not MessageType.SUMMARY]
        if _size(won, work.frame_tag) < work.window.bytes * LEAST_GAIN:
            return
        try:
            reply = await self._summary(work, work.rows[:count])
        except ModelError as error:
            _tell(work, error)
            if error.reason is RoundFailure.MODEL_UNAVAILABLE:
                return
            reply = _nothing_said(error)
        await self._write(work, count, reply)

    async def make_room(self, work: Work, refused: ModelError) -> bool:
        """Compact after a request that was refused for its length, or for what is in older rows. False where
        there is nothing left that could go."""
        count = covered_rows(work.rows) or covered_rows(work.rows, keep_reply=False)
        if not count:
            return False
        told = refused.reason, refused.detail, refused.cost
        await self.transcript.fail_request(work.lease, work.place, *told)
        try:
            reply = await self._summary(work, work.rows[:count])
        except ModelError as error:
            _tell(work, error)
            reply = _nothing_said(error)
        await self._write(work, count, reply)
        return True

    async def _summary(self, work: Work, rows: Sequence[Message], opening: str = "") -> Reply:
        """Of these rows, or of the newest of them that the server takes. Raises ModelError."""
        try:
            return await self._ask(work, work.profile, rows, opening)
        except ModelError as error:
            if error.blames_request and work.profile.placement is not Placement.TEXT:
                lowest = replace(work.profile, placement=Placement.TOOL)
                return await self._ask(work, lowest, [placed(row, Placement.TOOL) for row in rows], opening)
            newer = newest(rows, _size(rows, work.frame_tag) // 2, work.frame_tag)
            if error.reason is not RoundFailure.CONTEXT_OVERFLOW or len(newer) in (0, len(rows)):
                raise
        return await self._summary(work, newer, prompt.LEFT_OUT)

    async def _ask(self, work: Work, profile: Profile, rows: Sequence[Message], opening: str) -> Reply:
        """With the beginning of the agent's own requests, which the server may still have at hand."""
        assert work.terms, "there are rows, so there was a turn"
        told, tag = work.terms.system_prompt, work.frame_tag
        messages = agent_messages(profile, told, tag, rows, opening, closing=prompt.SUMMARY_REQUEST)
        return await self.asker.summary(work, Request(messages, work.tools))

    async def _write(self, work: Work, count: int, reply: Reply) -> None:
        assert work.terms, "there are rows, so there was a turn"
        covered, last = work.rows[:count], _last_reply(work.rows)
        through = covered[-1].position
        handled = await self.transcript.handled(work.lease.session_id, through, work.window.listed)
        said = cut(reply.text.strip(), work.window.summary_bytes)
        max_bytes = work.window.notes_bytes
        notes = newest_notes((*work.terms.notes, *noted(covered, max_bytes // 4)), max_bytes)
        announced = work.terms.profile.placement if work.terms.profile else None
        terms = replace(
            work.terms,
            system_prompt=prompt.system_prompt(work.terms.goal, work.frame_tag, notes, announced),
            notes=notes,
            announced=announced,
        )
        made = Compaction(
            NewMessage(MessageType.SUMMARY, Text(prompt.summary(said, handled, _earlier(covered)))),
            through,
            Place(last.turn, last.round, 1),
            terms,
            handled.count,
            not said,
            reply.usage,
        )
        summary = await self.transcript.compact(work.lease, work.next_position, made)
        work.compact(summary, count, terms)


def covered_rows(rows: Sequence[Message], keep_reply: bool = True) -> int:
    """How many of the first rows a summary may stand for: those before the last reply, or, where that is not
    enough, those up to the responses to its calls. Whatever came after is not yet answered. 0 where there is
    nothing new to cover."""
    last = next((n for n in reversed(range(len(rows))) if rows[n].type in REPLY_TYPES), None)
    if last is None:
        return 0
    if keep_reply:
        count = last
        while count and _of_one_reply(rows[count - 1], rows[last]):
            count -= 1
    else:
        count = last + 1
        while count < len(rows) and rows[count].type is MessageType.TOOL_RESPONSE:
            count += 1
    only_a_summary = count == 1 and rows[0].type is MessageType.SUMMARY
    return 0 if only_a_summary else count


def newest(rows: Sequence[Message], max_bytes: int, tag: str) -> Sequence[Message]:
    """The last of the rows that fit, from a boundary on: no response without its call. An earlier summary
    stays with them: nothing else tells of what it covers."""
    summary = [row for row in rows[:1] if row.type is MessageType.SUMMARY]
    taken, start = _size(summary, tag), len(rows)
    for n in reversed(range(len(summary), len(rows))):
        taken += _size(rows[n : n + 1], tag)
        if taken > max_bytes:
            break
        if rows[n].type is not MessageType.TOOL_RESPONSE and not (n and _of_one_reply(rows[n - 1], rows[n])):
            start = n
    return [*summary, *rows[start:]]


def noted(rows: Sequence[Message], max_bytes: int) -> list[str]:
    """What the agent wrote down with the tool for it, where the tool took it; of each note what fits."""
    taken = {
        (row.turn, row.round, row.content.call_id)
        for row in rows
        if isinstance(row.content, ToolResponse) and not row.content.is_error
    }
    found = []
    for row in rows:
        match row.content:
            case ToolCall(call_id, name) as call if (
                name == Note.spec.name and (row.turn, row.round, call_id) in taken
            ):
                # JSON can say what PostgreSQL cannot hold.
                text = storable(str(call.arguments().get("text", "")))
                found.append(cut(text.strip(), max_bytes))
            case _:
                pass
    return found


def newest_notes(notes: Sequence[str], max_bytes: int) -> tuple[str, ...]:
    """The last of the notes that fit."""
    taken, kept = 0, len(notes)
    for note in reversed(notes):
        taken += size(note)
        if taken > max_bytes:
            break
        kept -= 1
    return tuple(notes[kept:])


def _size(rows: Sequence[Message], tag: str) -> int:
    """How many bytes the rows add to a request."""
    return sum(size(words(row, tag)) for row in rows)


def _of_one_reply(row: Message, other: Message) -> bool:
    return (
        row.type in REPLY_TYPES
        and other.type in REPLY_TYPES
        and (row.turn, row.round) == (other.turn, other.round)
    )


def _earlier(rows: Sequence[Message]) -> str:
    """The summary at the beginning of the rows, if there is one."""
    match rows[0].content:
        case Text(text) if rows[0].type is MessageType.SUMMARY:
            return text
        case _:
            return ""


def _last_reply(rows: Sequence[Message]) -> Message:
    return next(row for row in reversed(rows) if row.type in REPLY_TYPES)


def _nothing_said(error: ModelError) -> Reply:
    return Reply("", "", (), error.cost)


def _tell(work: Work, error: ModelError) -> None:
    _log.warning(
        "no summary",
        session_id=str(work.lease.session_id),
        turn=work.place.turn,
        round=work.place.round,
        reason=error.reason.value,
        detail=error.detail,
    )
