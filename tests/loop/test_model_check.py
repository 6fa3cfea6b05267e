"""A model checked on request, and how little servers are asked otherwise."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

import pytest

from agent_service.domain import Evidence, Finding, Placement, Profile, RoundFailure
from agent_service.errors import ConfigNotFound
from agent_service.loop.counting import NOT_LOOKED_AT
from agent_service.loop.profiles import (
    NO_ANSWER,
    NOT_FOUND_OUT,
    ONLY_CONFIGURED,
    REFUSED_AT_WORK,
    Profiles,
)
from agent_service.model import Chunk, Model, ModelError, Request
from tests.servers.chat_template import ChatTemplate, TemplateModel, own, own_template
from tests.support import Store

SYSTEM, USER, TOOL, TEXT = Placement
UNREACHABLE = ModelError(RoundFailure.MODEL_UNAVAILABLE, "nobody there")
REFUSES_ALL = ChatTemplate("{{ raise_exception('Never.') }}")


def profiles(store: Store, model: Model, **times: float) -> Profiles:
    def named(name: str) -> Model:
        if name != "local":
            raise ConfigNotFound("model", name, ("local",))
        return model

    return Profiles(named, store.model_profiles, **times)


async def kept(store: Store) -> Finding | None:
    return await store.model_profiles.newest("http://template/v1", "template")


async def test_a_check_says_what_was_found_and_how_and_keeps_it(store: Store) -> None:
    known = profiles(store, own("drops_late_system"))
    check = await known.check("local")
    assert check.finding
    assert (check.name, check.server, check.model) == ("local", "http://template/v1", "template")
    assert (check.finding.profile, check.finding.evidence) == (Profile(USER), Evidence.RENDERED)
    assert known.known("local") == Profile(USER)
    found = await kept(store)
    assert found
    assert found.profile == Profile(USER)


async def test_a_check_asks_though_it_is_known(store: Store) -> None:
    model = own("takes_system")
    known = profiles(store, model)
    await known.check("local")
    model.template = ChatTemplate(own_template("drops_late_system"))
    check = await known.check("local")
    assert check.finding
    assert check.finding.profile == known.known("local") == Profile(USER)


async def test_where_prompts_are_not_shown_tokens_are_counted_and_it_says_so(store: Store) -> None:
    check = await profiles(store, own("forgets_reasoning", shows=False)).check("local")
    assert check.finding
    assert (check.finding.profile, check.finding.evidence) == (Profile(TOOL), Evidence.COUNTED)
    assert check.finding.remarks == (NOT_LOOKED_AT,)


@pytest.mark.parametrize(
    "model",
    [
        own("takes_system", shows=False, counts=False),
        TemplateModel(REFUSES_ALL),
        TemplateModel(REFUSES_ALL, shows=False),
    ],
    ids=["does not count", "takes nothing", "takes and shows nothing"],
)
async def test_where_nothing_can_be_found_out_a_guess_is_kept_that_says_so(
    store: Store, model: TemplateModel
) -> None:
    check = await profiles(store, model).check("local")
    assert check.finding
    assert (check.finding.profile, check.finding.evidence) == (Profile(TOOL), Evidence.GUESSED)
    assert check.finding.remarks == (NOT_FOUND_OUT,)
    found = await kept(store)
    assert found
    assert found.evidence is Evidence.GUESSED


async def test_what_is_configured_is_looked_at_and_stays(store: Store) -> None:
    known = profiles(store, own("drops_late_system", placement=SYSTEM))
    check = await known.check("local")
    assert check.finding
    assert (check.finding.profile, check.finding.evidence) == (Profile(SYSTEM), Evidence.CONFIGURED)
    assert check.finding.trials[0].trouble
    assert known.known("local") == Profile(SYSTEM)
    assert await kept(store) is None


async def test_what_is_configured_and_not_shown_is_not_looked_at(store: Store) -> None:
    model = own("takes_system", placement=TEXT, shows=False)
    check = await profiles(store, model).check("local")
    assert check.finding
    assert (check.finding.profile, check.finding.remarks) == (Profile(TEXT), (ONLY_CONFIGURED,))
    assert model.prompts == []


async def test_a_model_that_is_not_configured_is_told_as_such(store: Store) -> None:
    known = profiles(store, own("takes_system"))
    with pytest.raises(ConfigNotFound):
        await known.check("other")
    await known.learn(["other"])
    assert known.known("other") is None


async def test_what_was_refused_at_work_is_not_forgotten_for_what_the_server_shows(store: Store) -> None:
    known = profiles(store, model := own("takes_system"))
    await known.learn(["local"])
    await known.lower("local", Profile(SYSTEM))
    check = await known.check("local")
    assert check.finding
    assert (check.finding.profile, check.finding.evidence) == (Profile(USER), Evidence.STEPPED_DOWN)
    assert check.finding.remarks == (REFUSED_AT_WORK,)
    assert known.known("local") == Profile(USER)
    # Another template is another matter, and what it does not take counts as before.
    model.template = ChatTemplate(own_template("forgets_reasoning"))
    check = await known.check("local")
    assert check.finding
    assert (check.finding.profile, check.finding.evidence) == (Profile(TOOL), Evidence.RENDERED)


# ---- servers that do not answer


@dataclass
class Absent(TemplateModel):
    """Is not there; or is there and says nothing, from some request on."""

    silent: bool = False
    answers: int = 0
    asked: int = field(default=0, init=False)

    async def _come(self) -> None:
        self.asked += 1
        if self.asked > self.answers:
            if self.silent:
                await asyncio.Event().wait()
            raise UNREACHABLE

    async def render(self, request: Request) -> str | None:
        if self.shows:
            await self._come()
        return await super().render(request)

    async def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        await self._come()
        async for chunk in super().stream(request):
            yield chunk


def absent(**how: object) -> Absent:
    return Absent(ChatTemplate(own_template("takes_system")), **how)


async def test_a_server_that_is_not_there_is_no_error_and_leaves_nothing(store: Store) -> None:
    known = profiles(store, absent())
    check = await known.check("local")
    assert (check.finding, check.failure) == (None, "nobody there")
    assert known.known("local") is None
    assert await kept(store) is None


@pytest.mark.parametrize("shows", [True, False])
async def test_a_server_that_says_nothing_is_waited_for_only_so_long(store: Store, shows: bool) -> None:
    check = await profiles(store, absent(silent=True, shows=shows), max_seconds=0.1).check("local")
    assert (check.finding, check.failure) == (None, NO_ANSWER)


async def test_from_a_server_that_answers_and_then_no_more_a_guess_is_made(store: Store) -> None:
    model = absent(silent=True, shows=False, answers=4)
    check = await profiles(store, model, max_seconds=1).check("local")
    assert check.finding
    assert check.finding.evidence is Evidence.GUESSED


async def test_a_server_that_goes_away_while_it_is_asked_leaves_nothing(store: Store) -> None:
    check = await profiles(store, absent(answers=20)).check("local")
    assert (check.finding, check.failure) == (None, "nobody there")
    assert await kept(store) is None


# ---- how often a server is asked


async def test_of_many_that_want_to_know_at_once_one_asks(store: Store) -> None:
    model = own("takes_system")
    known = profiles(store, model)
    await known.learn(["local"])
    alone = len(model.rendered)
    crowd = profiles(store, crowded := own("drops_late_system"))
    await asyncio.gather(*(crowd.learn(["local"]) for _ in range(20)))
    assert crowd.known("local") == Profile(USER)
    assert len(crowded.rendered) < 3 * alone


async def test_a_server_is_taken_for_the_same_for_a_while(store: Store) -> None:
    model = own("takes_system")
    known = profiles(store, model)
    await known.learn(["local"])
    asked = len(model.rendered)
    model.template = ChatTemplate(own_template("drops_late_system"))
    await known.learn(["local"])
    assert len(model.rendered) == asked
    assert known.known("local") == Profile(SYSTEM)


async def test_after_that_another_template_is_found_out_about(store: Store) -> None:
    model = own("takes_system")
    known = profiles(store, model, fresh_seconds=0)
    await known.learn(["local"])
    model.template = ChatTemplate(own_template("drops_late_system"))
    await known.learn(["local"])
    assert known.known("local") == Profile(USER)


async def test_a_doubt_ends_that_at_once(store: Store) -> None:
    model = own("takes_system")
    known = profiles(store, model)
    await known.learn(["local"])
    model.template = ChatTemplate(own_template("drops_late_system"))
    known.doubt("local")
    await known.learn(["local"])
    assert known.known("local") == Profile(USER)


async def test_stepping_down_goes_no_further_than_others_have_come(store: Store) -> None:
    known = profiles(store, own("takes_system"))
    await known.learn(["local"])
    assert await known.lower("local", Profile(SYSTEM)) == Profile(USER)
    # A session that is still where the other one was.
    assert await known.lower("local", Profile(SYSTEM)) == Profile(USER)
    assert await known.lower("local", Profile(USER)) == Profile(TOOL)
    assert await known.lower("local", Profile(TOOL)) == Profile(TEXT)
    assert await known.lower("local", Profile(TEXT)) is None
    assert known.known("local") == Profile(TEXT)
