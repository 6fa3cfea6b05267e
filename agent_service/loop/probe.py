"""Which placement a server's prompts leave, and how they are judged.

The measure of a prompt is the one of the same conversation without the new interrupts: all of that must still
be there, in its order, the same up to their place; and they must be in that place, once.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import TypeVar

from agent_service.domain import Evidence, Finding, Placement, Profile, Trial, Trouble
from agent_service.loop.scenes import SCENES, Scene
from agent_service.model import ModelError, Request

T = TypeVar("T")

# Makes the prompt of a request. Raises ModelError.
Render = Callable[[Request], Awaitable[str]]

# Prompts tell the date, and some the time.
_FIGURES = re.compile("[0-9]+")

NO_CALLS = "the model is shown no tool calls and responses"
NO_SYSTEM_ROLE = "the model has no system role"
NO_TOOLS = "The server does not show the model the tools that are offered: it may never call one."

# With tools, and without.
FAMILIES = ((Placement.SYSTEM, Placement.USER, Placement.TOOL), (Placement.TEXT,))

# A scene with its prompt without the news.
Measures = Sequence[tuple[Scene, str]]


@dataclass(slots=True)
class Probe:
    """Asks one server for prompts. Raises ModelError where it does not answer."""

    render: Render
    trials: list[Trial] = field(default_factory=list)

    async def find(self) -> Finding | None:
        """The first placement that does; None where the server takes no conversation of ours at all."""
        for family in FAMILIES:
            system_role = await self._has_system_role(family[-1])
            for placement in family:
                profile = Profile(placement, system_role)
                measures = await self._measures(profile)
                trial = await self._try(profile, measures)
                self.trials.append(trial)
                if not trial.trouble:
                    remarks = () if _show_tools(profile, measures) else (NO_TOOLS,)
                    return Finding(profile, Evidence.RENDERED, tuple(self.trials), remarks)
        return None

    async def _has_system_role(self, placement: Placement) -> bool:
        """Whether the system prompt comes through no worse in a role of its own than in the user's words."""
        own = await self._measures(Profile(placement))
        if len(own) == len(SCENES):
            return True
        return len(own) >= len(await self._measures(Profile(placement, system_role=False)))

    async def _measures(self, profile: Profile) -> Measures:
        """Of the scenes that the server shows as what they are."""
        prompts = await self._prompts([scene.request_without_news(profile) for scene in SCENES])
        return [
            (scene, prompt)
            for scene, prompt in zip(SCENES, prompts, strict=True)
            if isinstance(prompt, str) and shows(scene, prompt)
        ]

    async def _try(self, profile: Profile, measures: Measures) -> Trial:
        placement = profile.placement
        if placement is Placement.SYSTEM and not profile.system_role:
            return Trial(placement, Trouble.UNKNOWN_ROLE, detail=NO_SYSTEM_ROLE)
        with_calls = [(scene, measure) for scene, measure in measures if scene.has_calls]
        if not with_calls:
            return Trial(placement, Trouble.UNKNOWN_ROLE, detail=NO_CALLS)
        prompts = await self._prompts([scene.request(profile) for scene, _ in measures])
        for (scene, measure), prompt in zip(measures, prompts, strict=True):
            if isinstance(prompt, ModelError):
                return Trial(placement, Trouble.REFUSED, scene.where, prompt.detail)
            if wrong := trouble(scene, measure, prompt):
                return Trial(placement, wrong, scene.where)
        scene, measure = with_calls[0]
        if placement is Placement.SYSTEM and not await self._is_marked(scene, profile, measure):
            return Trial(placement, Trouble.UNMARKED, scene.where)
        return Trial(placement)

    async def _is_marked(self, scene: Scene, profile: Profile, measure: str) -> bool:
        """Whether the news have a beginning of their own. What closes the row before them is what it has in
        common when the user speaks next, or the model."""
        of_user = scene.request(replace(profile, placement=Placement.USER))
        own, users = await self._prompts([scene.request(profile), of_user])
        assert isinstance(own, str), "it was taken a moment ago"
        closing = measure if isinstance(users, ModelError) else _common(measure, users)
        gap = own[: own.index(scene.new_words[0])].removesuffix(scene.lead)
        return bool(gap.removeprefix(_common(gap, closing)).strip())

    async def _prompts(self, requests: Sequence[Request]) -> list[str | ModelError]:
        prompts = await answers(self.render, requests)
        return [without_figures(prompt) if isinstance(prompt, str) else prompt for prompt in prompts]


async def answers(
    ask: Callable[[Request], Awaitable[T]], requests: Iterable[Request]
) -> list[T | ModelError]:
    """Ask all at once: where a request is refused for its messages, the refusal is the answer. Raises
    ModelError where one comes to nothing for any other reason."""

    async def answer(request: Request) -> T | ModelError:
        try:
            return await ask(request)
        except ModelError as error:
            return error

    found = await asyncio.gather(*map(answer, requests))
    for one in found:
        if isinstance(one, ModelError) and not one.blames_request:
            raise one
    return found


def without_figures(prompt: str) -> str:
    return _FIGURES.sub("0", prompt)


def shows(scene: Scene, prompt: str) -> bool:
    """Whether the system prompt, what the user says and what tools respond is in the prompt, in order."""
    found = [prompt.find(word) for word in scene.needed]
    return -1 not in found and found == sorted(found)


def trouble(scene: Scene, measure: str, prompt: str) -> Trouble | None:
    """What is wrong with a prompt, measured by the one without the news."""
    counts = [prompt.count(word) for word in scene.new_words]
    if 0 in counts:
        return Trouble.DROPPED
    if max(counts) > 1:
        return Trouble.DOUBLED
    before, after = (
        sorted((word for word in told if word in measure), key=measure.index)
        for told in (scene.words_before, scene.words_after)
    )
    expected = [*before, *scene.new_words, *after]
    if not all(word in prompt for word in expected):
        return Trouble.DISPLACES
    if sorted(expected, key=prompt.index) != expected:
        return Trouble.MOVED
    kept = measure[: measure.index(before[-1]) + len(before[-1])]
    return None if prompt.startswith(kept) else Trouble.REWRITES


def _show_tools(profile: Profile, measures: Measures) -> bool:
    return profile.placement is Placement.TEXT or any(scene.shows_tools(prompt) for scene, prompt in measures)


def _common(one: str, other: str) -> str:
    """What both begin with."""
    pairs = zip(one, other, strict=False)
    return "".join(letter for letter, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
