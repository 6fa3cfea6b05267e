"""Which placement a server's prompts leave, and how they are judged.

The measure of a prompt is the one of the same conversation without the new interrupts: all of that must still
be there, in its order, the same up to their place; and they must be in that place, once.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import product, takewhile
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
CALLS_ALONE = (
    "The server takes one tool call in a message, and no words beside it: parallel calls are shown one after "
    "the other, and words beside a call not at all."
)

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
            manner = await self._manner(family[-1])
            for placement in family:
                profile = replace(manner, placement=placement)
                measures = await self._measures(profile)
                trial = await self._try(profile, measures)
                self.trials.append(trial)
                if not trial.trouble:
                    return Finding(
                        profile, Evidence.RENDERED, tuple(self.trials), tuple(_remarks(profile, measures))
                    )
        return None

    async def _manner(self, placement: Placement) -> Profile:
        """The first in which the most conversations come through."""
        best, most = Profile(placement), -1
        for calls_alone, system_role in product((False, True), (True, False)):
            profile = Profile(placement, system_role, calls_alone)
            shown = len(await self._measures(profile))
            if shown > most:
                best, most = profile, shown
            if most == len(SCENES):
                break
        return best

    async def _measures(self, profile: Profile) -> Measures:
        """Of the scenes that the server shows as what they are. After tools all prompts end the same: some
        templates put words there that stood beside the call, and shut the model's turn."""
        prompts = await self._prompts([scene.request_without_news(profile) for scene in SCENES])
        shown = [
            (scene, prompt)
            for scene, prompt in zip(SCENES, prompts, strict=True)
            if isinstance(prompt, str) and shows(scene, prompt)
        ]
        usual = next((scene.ending(prompt) for scene, prompt in shown if scene.ends_with_tools), "")
        return [
            (scene, prompt)
            for scene, prompt in shown
            if not scene.ends_with_tools or scene.ending(prompt) == usual
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
        if placement is Placement.SYSTEM and (wrong := await self._trouble_around(scene, profile, measure)):
            return Trial(placement, wrong, scene.where)
        return Trial(placement)

    async def _trouble_around(self, scene: Scene, profile: Profile, measure: str) -> Trouble | None:
        """Whether the news have a beginning of their own, and an end after which the model speaks. What
        closes the row before them is what it has in common when the user speaks next, or the model."""
        of_user = scene.request(replace(profile, placement=Placement.USER))
        own, users = await self._prompts([scene.request(profile), of_user])
        assert isinstance(own, str), "it was taken a moment ago"
        other = measure if isinstance(users, ModelError) else users
        before = own[: own.index(scene.new_words[0])].removesuffix(scene.lead).strip()
        closed = _common(before, _common(measure, other))
        if before in (closed.strip(), measure.strip()):
            return Trouble.UNMARKED
        return None if own.split()[-1] == other.split()[-1] else Trouble.UNOPENED

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


def _remarks(profile: Profile, measures: Measures) -> Iterator[str]:
    if profile.placement is Placement.TEXT:
        return
    if not any(scene.shows_tools(prompt) for scene, prompt in measures):
        yield NO_TOOLS
    if profile.calls_alone:
        yield CALLS_ALONE


def _common(one: str, other: str) -> str:
    """What both begin with."""
    pairs = zip(one, other, strict=False)
    return "".join(letter for letter, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
