"""What must hold of the prompt that a server makes of a transcript."""

import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from agent_service.domain import Finding, Profile
from agent_service.loop.probe import Probe, shows, trouble, without_figures
from agent_service.loop.scenes import Scene, scene
from agent_service.model import Request

Render = Callable[[Request], Awaitable[str]]

_WORD = re.compile("Zq[a-j]+qz")
# What a row says after its last word, as a JSON string perhaps: the rest is the template's.
_REST = re.compile(r"\.\)?(?:(?:\n|\\n)</interrupt-facade>)?")
_SPOKEN = {"user": scene("", "user NEWS"), "tool": scene("", "user call NEWS")}


@dataclass(frozen=True)
class Judge:
    """Of one template, in the hands of one server, and of what is chosen for it."""

    render: Render
    finding: Finding

    @classmethod
    async def of(cls, render: Render) -> "Judge":
        finding = await Probe(render).find()
        assert finding, "nothing is found that does"
        return cls(render, finding)

    @property
    def profile(self) -> Profile:
        return self.finding.profile

    async def holds_in(self, transcripts: Iterable[Scene]) -> None:
        for told in transcripts:
            await self._holds(told)

    async def _holds(self, told: Scene) -> None:
        """The conversation is taken, its new interrupts are all there, once and in order, nothing before them
        has changed, and then it is the model's turn."""
        request = told.request(self.profile)
        measure = await self._prompt(told.request_without_news(self.profile))
        prompt = await self._prompt(request)
        assert shows(told, measure)
        assert trouble(told, measure, prompt) is None
        await self._leaves_the_model_its_turn(prompt, str(request.messages[-1]["role"]))

    async def _leaves_the_model_its_turn(self, prompt: str, role: str) -> None:
        """The prompt ends as one does in which there are no interrupts."""
        plain = await self._prompt(_SPOKEN.get(role, _SPOKEN["user"]).request_without_news(self.profile))
        expected = _ending(plain)
        if role == "system":
            # Which may close in another way than the user, but not open.
            assert _ending(prompt).split()[-1:] == expected.split()[-1:]
        else:
            assert _ending(prompt) == expected

    async def _prompt(self, request: Request) -> str:
        return without_figures(await self.render(request))


def _ending(prompt: str) -> str:
    *_, last = _WORD.finditer(prompt)
    return _REST.sub("", prompt[last.end() :], count=1)
