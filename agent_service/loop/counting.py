"""Which placement a server's figures leave, where it does not show its prompts.

It counts the tokens of each prompt, and how many of them it had at hand from an earlier one. A long interrupt
that adds too little was left out, or drove out something else; one that leaves too little at hand was put too
early.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from agent_service.domain import Evidence, Finding, Placement, Profile, RoundFailure, Trial, Trouble, Usage
from agent_service.loop.probe import FAMILIES, NO_CALLS, NO_SYSTEM_ROLE, answers
from agent_service.loop.scenes import LONG, LONG_AND_TOLD, LONG_BUT_SILENT, LONG_BUT_TERSE, SCENES
from agent_service.model import ModelError, Request

# The figures for the prompt of a request. Raises ModelError.
Count = Callable[[Request], Awaitable[Usage]]

NOT_LOOKED_AT = (
    "The server does not show its prompts. That interrupts arrive, and in their place, follows from its "
    "counts of tokens after a tool's response. How they are marked could not be found out."
)
NOT_CACHED = "the server does not tell how much of a prompt it had at hand: one that is moved looks the same"

# Of the tokens of an interrupt, and of those of the prompt before it: the least that has to arrive.
_LEAST_ADDED, _LEAST_AT_HAND = 0.8, 0.85
# Chat templates put fewer tokens around a message; the system prompt and a long response have more.
_TOKENS_AROUND = 60


class _NotCounted(Exception):
    """The server answers without figures."""


@dataclass(slots=True)
class Counting:
    """Asks one server for figures. Raises ModelError where it does not answer."""

    count: Count
    # Whether there was any answer.
    answered: bool = False
    trials: list[Trial] = field(default_factory=list)

    async def find(self) -> Finding | None:
        """The first placement that does; None where the server does not count, or takes none of these
        conversations."""
        try:
            return await self._find()
        except _NotCounted:
            return None
        except ModelError as error:
            if error.reason is not RoundFailure.CONTEXT_OVERFLOW:
                raise
            return None

    async def _find(self) -> Finding | None:
        for family in FAMILIES:
            system_role = await self._has_system_role(family[-1])
            if system_role is None:
                continue
            for placement in family:
                profile = Profile(placement, system_role)
                trial = await self._arrival(profile) or await self._refusal(profile) or Trial(placement)
                self.trials.append(trial)
                if not trial.trouble:
                    return Finding(profile, Evidence.COUNTED, tuple(self.trials), (NOT_LOOKED_AT,))
        return None

    async def _has_system_role(self, placement: Placement) -> bool | None:
        """Whether the system prompt comes through in a role of its own. None where the server takes the
        conversation neither so nor with the system prompt in the user's words."""
        own, in_users = Profile(placement), Profile(placement, system_role=False)
        whole, terse, users = await answers(
            self._figures,
            [
                LONG.request_without_news(own),
                LONG_BUT_TERSE.request_without_news(own),
                LONG.request_without_news(in_users),
            ],
        )
        if isinstance(whole, ModelError) or isinstance(terse, ModelError):
            return None if isinstance(users, ModelError) else False
        return whole.input_tokens > terse.input_tokens + _TOKENS_AROUND

    async def _arrival(self, profile: Profile) -> Trial | None:
        """What the figures say is wrong, if anything is."""
        placement, where = profile.placement, LONG.where
        if placement is Placement.SYSTEM and not profile.system_role:
            return Trial(placement, Trouble.UNKNOWN_ROLE, detail=NO_SYSTEM_ROLE)
        silent, told, before, again = [
            await self._figures(scene.request_without_news(profile))
            for scene in (LONG_BUT_SILENT, LONG_AND_TOLD, LONG, LONG)
        ]
        if before.input_tokens < silent.input_tokens + _TOKENS_AROUND:
            return Trial(placement, Trouble.UNKNOWN_ROLE, where, NO_CALLS)
        least_at_hand = before.input_tokens * _LEAST_AT_HAND
        remembers = again.cached_input_tokens >= least_at_hand
        if placement is Placement.SYSTEM and not remembers:
            return Trial(placement, Trouble.UNTRIED, where, NOT_CACHED)
        (news,) = await answers(self._figures, [LONG.request(profile)])
        if isinstance(news, ModelError):
            return Trial(placement, Trouble.REFUSED, where, news.detail)
        length = told.input_tokens - before.input_tokens
        if news.input_tokens - before.input_tokens < length * _LEAST_ADDED:
            return Trial(placement, Trouble.DROPPED, where)
        if remembers and news.cached_input_tokens < least_at_hand:
            return Trial(placement, Trouble.MOVED, where)
        return None

    async def _refusal(self, profile: Profile) -> Trial | None:
        """Where else the server refuses the interrupt, and nothing but that."""
        with_news = await answers(self._figures, (scene.request(profile) for scene in SCENES))
        refused = [
            (scene, news)
            for scene, news in zip(SCENES, with_news, strict=True)
            if isinstance(news, ModelError)
        ]
        without = await answers(self._figures, (scene.request_without_news(profile) for scene, _ in refused))
        for (scene, refusal), taken in zip(refused, without, strict=True):
            if isinstance(taken, Usage):
                return Trial(profile.placement, Trouble.REFUSED, scene.where, refusal.detail)
        return None

    async def _figures(self, request: Request) -> Usage:
        figures = await self.count(request)
        self.answered = True
        if not figures.input_tokens:
            raise _NotCounted
        return figures
