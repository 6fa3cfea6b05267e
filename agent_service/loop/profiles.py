"""What is known of models: asked of their servers, kept in the database, at hand without waiting."""

import asyncio
import hashlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import structlog

from agent_service.domain import (
    UNDECIDED,
    Evidence,
    Finding,
    ModelCheck,
    Placement,
    Profile,
    ProfileKey,
    RoundFailure,
    Terms,
    Trial,
    Usage,
)
from agent_service.errors import ConfigNotFound
from agent_service.loop.counting import Counting
from agent_service.loop.probe import Probe, answers, without_figures
from agent_service.loop.scenes import GOES_ON
from agent_service.loop.work import Work
from agent_service.model import Model, ModelError, Request
from agent_service.store.model_profiles import ModelProfiles

_log = structlog.get_logger(__name__)

# How long a server may take to be asked, and how long it is taken for the same.
MAX_SECONDS, FRESH_SECONDS = 20.0, 60.0

NOT_FOUND_OUT = "Where interrupts arrive could not be found out: they go where the fewest are lost."
ONLY_CONFIGURED = "The server does not show its prompts: nobody has looked whether interrupts arrive there."
REFUSED_AT_WORK = "At work its server has refused interrupts in a higher place, whatever it shows or counts."
NO_ANSWER = "The model server did not answer in time."

# What tells one template from another: work that goes on after an interrupt, in the places that differ most.
_TELLING = tuple(GOES_ON.request(Profile(placement)) for placement in Placement)


@dataclass(frozen=True, slots=True)
class _Known:
    key: ProfileKey
    finding: Finding
    fresh_until: float


class Profiles:
    """One for a process."""

    def __init__(
        self,
        model: Callable[[str], Model],
        store: ModelProfiles,
        max_seconds: float = MAX_SECONDS,
        fresh_seconds: float = FRESH_SECONDS,
    ) -> None:
        """`model` gives the model of a name, or raises ConfigNotFound."""
        self._model, self._store = model, store
        self._max_seconds, self._fresh_seconds = max_seconds, fresh_seconds
        self._known: dict[str, _Known] = {}
        self._silent_until: defaultdict[str, float] = defaultdict(float)
        # Of all sessions that want to know one asks.
        self._asking: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def known(self, name: str) -> Profile | None:
        """What is known of a model at this moment."""
        if configured := self._configured(name):
            return Profile(configured)
        known = self._known.get(name)
        return known.finding.profile if known else None

    def has(self, names: Iterable[str]) -> bool:
        """Whether all these models are configured."""
        for name in names:
            try:
                self._model(name)
            except ConfigNotFound:
                return False
        return True

    def is_fixed(self, name: str) -> bool:
        """Whether the configuration says where interrupts go, whatever becomes of them."""
        return self._configured(name) is not None

    async def learn(self, names: Iterable[str]) -> None:
        """Ask about models of which nothing is known, or not for sure any more. Takes a bounded time; what
        cannot be found out now stays as it was. Raises Unavailable, of the database."""
        for name in set(names):
            await self._learn(name)

    async def check(self, name: str) -> ModelCheck:
        """Ask in any case. Raises ConfigNotFound, and Unavailable, of the database."""
        model = self._model(name)
        served, finding, failure = model.served, None, ""
        try:
            async with asyncio.timeout(self._max_seconds), self._asking[name]:
                finding = await self._find_out(name, model, await _key(model))
        except TimeoutError:
            failure = NO_ANSWER
        except ModelError as error:
            failure = error.detail
        return ModelCheck(name, served.server, served.model, finding, failure, datetime.now(UTC))

    async def lower(self, name: str, profile: Profile) -> Profile | None:
        """The profile to go on with when the server has refused an interrupt with this one, remembered for
        all; None where there is no other. Raises Unavailable."""
        below = profile.placement.lower
        if not below:
            return None
        # The server may have become another one.
        self.doubt(name)
        await self._learn(name)
        known = self._known.get(name)
        if known is None:
            return replace(profile, placement=below[0])
        lower = known.finding.profile
        # Unless it has, or another session has stepped down meanwhile.
        if lower.placement not in below:
            lower = replace(lower, placement=below[0])
            await self._keep(name, known.key, Finding(lower, Evidence.STEPPED_DOWN))
        return lower

    async def place_again(self, work: Work, terms: Terms) -> None:
        """Let an open turn run with these terms. Raises LeaseLost and Unavailable."""
        await self._store.place_again(work.lease, terms, work.unseen)
        work.place_again(terms)

    def doubt(self, name: str) -> None:
        """Let the next one who wants to know ask again: the server takes no longer what it took."""
        if known := self._known.get(name):
            self._known[name] = replace(known, fresh_until=0)

    def _configured(self, name: str) -> Placement | None:
        try:
            return self._model(name).served.placement
        except ConfigNotFound:
            return None

    async def _learn(self, name: str) -> None:
        try:
            model = self._model(name)
        except ConfigNotFound:
            return
        if self.is_fixed(name) or time.monotonic() < self._silent_until[name]:
            return
        try:
            async with asyncio.timeout(self._max_seconds), self._asking[name]:
                known = self._known.get(name)
                if known is None or known.fresh_until < time.monotonic():
                    await self._ask(name, model)
        except (TimeoutError, ModelError) as error:
            if isinstance(error, TimeoutError):
                # It is not waited for again and again, by one session after another.
                self._silent_until[name] = time.monotonic() + self._fresh_seconds
            _log.warning("model not asked", model=name, error=str(error) or NO_ANSWER)
            await self._recall(name, model)

    async def _ask(self, name: str, model: Model) -> None:
        key = await _key(model)
        if found := await self._store.find(key):
            self._remember(name, key, found)
        else:
            await self._find_out(name, model, key)

    async def _recall(self, name: str, model: Model) -> None:
        """Go for a while by what was found out last, whatever the server may be by now."""
        served = model.served
        if known := self._known.get(name):
            self._remember(name, known.key, known.finding)
        elif found := await self._store.newest(served.server, served.model):
            self._remember(name, ProfileKey(served.server, served.model, ""), found)

    async def _find_out(self, name: str, model: Model, key: ProfileKey) -> Finding:
        configured = model.served.placement
        if configured and not key.template:
            return Finding(Profile(configured), Evidence.CONFIGURED, remarks=(ONLY_CONFIGURED,))
        finding = await (self._by_rendering(model) if key.template else self._by_counting(model))
        if configured:
            return replace(finding, profile=Profile(configured), evidence=Evidence.CONFIGURED)
        finding = _no_higher(finding, await self._store.find(key))
        await self._keep(name, key, finding)
        return finding

    async def _by_rendering(self, model: Model) -> Finding:
        async def render(request: Request) -> str:
            prompt = await model.render(request)
            if prompt is None:
                raise ModelError(RoundFailure.BAD_REPLY, "the model server shows its prompts no longer")
            return prompt

        probe = Probe(render)
        return await probe.find() or _guess(probe.trials)

    async def _by_counting(self, model: Model) -> Finding:
        async def count(request: Request) -> Usage:
            return await _count(model, request)

        counting = Counting(count)
        try:
            # A part of the whole time: from a server that answers, however slowly, something is learnt.
            async with asyncio.timeout(self._max_seconds * 0.8):
                finding = await counting.find()
        except TimeoutError:
            if not counting.answered:
                raise
            finding = None
        return finding or _guess(counting.trials)

    async def _keep(self, name: str, key: ProfileKey, finding: Finding) -> None:
        await self._store.keep(key, finding)
        self._remember(name, key, finding)

    def _remember(self, name: str, key: ProfileKey, finding: Finding) -> None:
        self._known[name] = _Known(key, finding, time.monotonic() + self._fresh_seconds)
        _log.info(
            "model known",
            model=name,
            placement=finding.profile.placement.value,
            system_role=finding.profile.system_role,
            evidence=finding.evidence.value,
        )


def _no_higher(found: Finding, before: Finding | None) -> Finding:
    """What was found, unless the same server has refused at work what it shows."""
    if not before or before.evidence is not Evidence.STEPPED_DOWN:
        return found
    if before.profile.placement not in found.profile.placement.lower:
        return found
    remarks = (*found.remarks, REFUSED_AT_WORK)
    return replace(found, profile=before.profile, evidence=before.evidence, remarks=remarks)


def _guess(trials: Iterable[Trial]) -> Finding:
    return Finding(UNDECIDED, Evidence.GUESSED, tuple(trials), (NOT_FOUND_OUT,))


async def _key(model: Model) -> ProfileKey:
    """Raises ModelError where the server does not answer."""
    shown = [
        prompt.detail if isinstance(prompt, ModelError) else prompt
        for prompt in await answers(model.render, _TELLING)
    ]
    told = without_figures("".join(prompt for prompt in shown if prompt))
    template = hashlib.sha256(told.encode()).hexdigest() if None not in shown else ""
    return ProfileKey(model.served.server, model.served.model, template)


async def _count(model: Model, request: Request) -> Usage:
    """The figures for a request, whose reply is of no interest."""
    usage = Usage()
    async with aclosing(model.stream(replace(request, max_tokens=1))) as chunks:
        async for chunk in chunks:
            usage = chunk.usage or usage
    return usage
