"""What is done when a server refuses a request that it would take with less in it."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from agent_service.domain import Interrupt, Message, MessageId, RoundFailure, Speaker
from agent_service.loop.asker import Asker
from agent_service.loop.compaction import Compactor, covered_rows
from agent_service.loop.profiles import Profiles
from agent_service.loop.work import Work
from agent_service.model import ModelError
from agent_service.store.room import Room
from agent_service.store.transcript import Transcript

STEPPED_DOWN = "interrupts are refused as {}, and are placed as {} from now on"
SHORTENED = "interrupts that are too long together are shown shorter from now on"
OLD_ROWS = "interrupts are refused that were taken before, and give way to a summary"


@dataclass(frozen=True, slots=True)
class Refusals:
    transcript: Transcript
    room: Room
    asker: Asker
    compactor: Compactor
    profiles: Profiles

    async def overcome(self, work: Work, speaker: Speaker, refused: ModelError) -> bool:
        """Change what a request was refused for, and tell of it: the next one differs. False where nobody
        knows what that is, or it cannot be changed."""
        if refused.reason is RoundFailure.CONTEXT_OVERFLOW:
            return await self.compactor.make_room(work, refused) or await self._shorten(work, refused)
        if not refused.blames_request or self.profiles.is_fixed(work.model(speaker)):
            return False
        new, old = _placeable(work, speaker), _coverable(work)
        if await self._is_for(new, work, speaker):
            return await self._step_down(work, speaker, refused)
        if await self._is_for(old, work, speaker):
            self.profiles.doubt(work.model(speaker))
            return await self.compactor.make_room(work, _told(OLD_ROWS, refused))
        # Of both the new ones are placed again first. Then the next refusal is for the old ones alone.
        if new and set(old).difference(new) and await self._is_for({*new, *old}, work, speaker):
            return await self._step_down(work, speaker, refused)
        return False

    async def _shorten(self, work: Work, refused: ModelError) -> bool:
        """Show less of what was delivered and no model has seen. False where that makes nothing shorter."""
        unseen = [
            row.content
            for row in work.rows
            if row.message_id in work.unseen and isinstance(row.content, Interrupt)
        ]
        shortened = work.window.shortened(unseen, work.frame_tag)
        if not shortened:
            return False
        detail = f"{SHORTENED}: {refused.detail}"
        await self.transcript.fail_request(work.lease, work.place, refused.reason, detail, refused.cost)
        await self.room.show_less(work.lease, shortened)
        work.show_less(shortened)
        return True

    async def _is_for(self, rows: Collection[MessageId], work: Work, speaker: Speaker) -> bool:
        """Whether the server takes the request without these rows, and not with them: it is asked for both,
        as it may have failed for another reason."""
        if not rows:
            return False
        others = [row for row in work.rows if row.message_id not in rows]
        if not await self.asker.takes(work, speaker, others):
            return False
        return not await self.asker.takes(work, speaker, work.rows)

    async def _step_down(self, work: Work, speaker: Speaker, refused: ModelError) -> bool:
        before = work.voice_profile if speaker is Speaker.INNER_VOICE else work.profile
        after = await self.profiles.lower(work.model(speaker), before)
        if after is None:
            return False
        await self.profiles.place_again(work, work.terms_with(work.model(speaker), after))
        told = _told(STEPPED_DOWN.format(before.placement.value, after.placement.value), refused)
        await self.transcript.fail_request(work.lease, work.place, told.reason, told.detail, refused.cost)
        return True


def _placeable(work: Work, speaker: Speaker) -> Collection[MessageId]:
    """The interrupts that a step down places again: in the inner voice's view all of them."""
    if speaker is Speaker.ASSISTANT:
        return work.unseen
    return _interrupts(work.rows)


def _coverable(work: Work) -> Collection[MessageId]:
    """The interrupts that a summary could stand for."""
    return _interrupts(work.rows[: covered_rows(work.rows)])


def _interrupts(rows: Sequence[Message]) -> Collection[MessageId]:
    return {row.message_id for row in rows if isinstance(row.content, Interrupt)}


def _told(what: str, refused: ModelError) -> ModelError:
    return ModelError(RoundFailure.MODEL_REFUSED, f"{what}: {refused.detail}")
