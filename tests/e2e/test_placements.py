"""Interrupts and chat templates, with a real server that makes the prompts: llama.cpp's."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

import pytest
import pytest_asyncio

from agent_service.model import SUMMARY_MARK
from spark.agent.v1.event_pb2 import ROUND_FAILURE_MODEL_REFUSED, Event
from spark.agent.v1.model_pb2 import (
    EVIDENCE_RENDERED,
    EVIDENCE_STEPPED_DOWN,
    PLACEMENT_SYSTEM,
    PLACEMENT_USER,
    Placement,
)
from tests.conftest import Postgres
from tests.e2e.client import Client, Door
from tests.e2e.databases import new_database
from tests.e2e.events import facts, has, of_interrupt, of_kind
from tests.e2e.processes import running
from tests.e2e.sessions import create, deposit
from tests.servers.chat import Asked
from tests.servers.chat_template import OWN
from tests.servers.front import Front, front_of, never

pytestmark = pytest.mark.asyncio(loop_scope="module")

NUDGE, NOON = "Look north.", "+00:00"

# Of a model without a system role llama.cpp itself lets the user say the system prompt.
PLACES = {
    "takes_system": "SYSTEM",
    "tells_the_time": "SYSTEM",
    "refuses_late_system": "USER",
    "drops_late_system": "USER",
    "moves_system_first": "USER",
    "doubles_late_system": "USER",
    "last_system_wins": "USER",
    "shows_system_bare": "USER",
    "has_no_system_role": "USER",
    "forgets_reasoning": "TOOL",
    "wants_the_assistant_after_tools": "TOOL",
    "alternates": "TEXT",
    "ignores_tools": "TEXT",
}


def late_system(body: dict) -> bool:
    return any(message["role"] == "system" for message in body["messages"][1:])


@dataclass(frozen=True)
class House:
    agent: Door
    fronts: dict[str, Front]
    settings: dict[str, str]

    async def session(self, model: str, **config: object) -> str:
        config = {"model": model, "tools": ["now"], "disable_inner_voice": True} | config
        return await create(self.agent, "Keep the lamp lit.", **config)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(
    postgres: Postgres, client: Client, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[House]:
    async with AsyncExitStack() as stack:
        fronts = {name: await stack.enter_async_context(front_of(OWN / f"{name}.jinja")) for name in PLACES}
        config = tmp_path_factory.mktemp("templates") / "spark.toml"
        config.write_text(
            "\n".join(
                f'[models.{name}]\nbase_url = "{front.url}"\nmodel = "tiny"\n'
                for name, front in fronts.items()
            )
        )
        settings = {"SPARK_DATABASE_URL": await new_database(postgres), "SPARK_CONFIG": str(config)}
        service = await stack.enter_async_context(running("agent_service", **settings))
        yield House(client.agent(service.address), fronts, settings)


async def nudged(house: House, model: str) -> tuple[list[Event], Asked, str]:
    """A turn with a call, during which a nudge comes: its events, the request after that, and the nudge."""
    session_id = await house.session(model)
    front = house.fronts[model]
    async with house.agent.stream("StreamTranscript", session_id=session_id) as stream:
        calling = await front.asked()
        nudge = await deposit(house.agent, session_id, NUDGE)
        if calling.body.get("tools"):
            await calling.call("call00001", "now", '{"tz": "UTC"}')
            answering = await front.asked()
        else:
            await calling.answer("I look south.")
            answering = await front.asked()
        await answering.answer("I look north.")
        await stream.until(lambda said: has("interrupt_seen")(said) and has("turn_ended")(said))
    return facts(stream.responses), answering, nudge.interrupt_id


@pytest.mark.parametrize("name", PLACES)
async def test_a_check_finds_the_place_by_the_servers_own_prompts(house: House, name: str) -> None:
    check = (await house.agent.call("CheckModel", model=name)).model_check
    assert (Placement.Name(check.placement), check.evidence) == (
        f"PLACEMENT_{PLACES[name]}",
        EVIDENCE_RENDERED,
    )


@pytest.mark.parametrize("name", PLACES)
async def test_a_nudge_is_in_its_place_in_the_prompt_and_is_seen(house: House, name: str) -> None:
    events, answering, nudge = await nudged(house, name)
    assert of_interrupt(events, nudge) == ["interrupt_posted", "interrupt_delivered", "interrupt_seen"]
    assert of_kind(events, "round_failed") == []
    prompt = await house.fronts[name].prompt(answering)
    assert prompt.count(NUDGE) == 1
    assert prompt.index("Keep the lamp lit.") < prompt.index("Continue.") < prompt.index(NUDGE)
    if PLACES[name] != "TEXT":
        assert prompt.rindex(NOON) < prompt.index(NUDGE)


async def test_a_server_that_refuses_at_work_what_it_shows_gets_it_in_the_next_place_down(
    house: House,
) -> None:
    name = "takes_system"
    front = house.fronts[name]
    front.refuses = late_system
    events, answering, nudge = await nudged(house, name)
    front.refuses = never
    (failed,) = of_kind(events, "round_failed")
    assert failed.reason == ROUND_FAILURE_MODEL_REFUSED
    assert failed.detail.startswith("interrupts are refused as system, and are placed as user from now on: ")
    assert of_interrupt(events, nudge) == ["interrupt_posted", "interrupt_delivered", "interrupt_seen"]
    *_, last = answering.messages
    assert last["role"] == "user"
    assert NUDGE in last["content"]


async def test_that_is_remembered_after_a_restart_and_a_check_says_so(
    house: House, postgres: Postgres, client: Client
) -> None:
    name = "takes_system"
    settings = house.settings | {"SPARK_DATABASE_URL": await new_database(postgres)}
    house.fronts[name].refuses = late_system
    async with running("agent_service", **settings) as service:
        await nudged(replace(house, agent=client.agent(service.address)), name)
    async with running("agent_service", **settings) as service:
        restarted = replace(house, agent=client.agent(service.address))
        check = (await restarted.agent.call("CheckModel", model=name)).model_check
        events, answering, _ = await nudged(restarted, name)
    house.fronts[name].refuses = never
    assert (check.placement, check.evidence) == (PLACEMENT_USER, EVIDENCE_STEPPED_DOWN)
    assert [trial.placement for trial in check.trials if not trial.trouble] == [PLACEMENT_SYSTEM]
    assert of_kind(events, "round_failed") == []
    assert answering.messages[-1]["role"] == "user"


async def test_old_interrupts_that_are_refused_give_way_to_a_summary(house: House) -> None:
    """The server becomes another one between two turns, and nothing but its refusals shows it."""
    name = "tells_the_time"
    front, session_id = house.fronts[name], await house.session(name, mode="SESSION_MODE_ON_INTERRUPT")
    async with house.agent.stream("StreamTranscript", session_id=session_id) as stream:
        await deposit(house.agent, session_id, NUDGE)
        await (await front.asked()).answer("I look north.")
        await stream.until(has("turn_ended"))
        front.refuses = late_system
        await deposit(house.agent, session_id, "Look south.")
        summary = await front.asked(SUMMARY_MARK)
        await summary.answer("All is calm.")
        last = await front.asked("All is calm.")
        await last.answer("I look south.")
        await stream.until(has("turn_ended", 2))
    front.refuses = never
    first, second = of_kind(facts(stream.responses), "round_failed")
    assert "are placed as user from now on" in first.detail
    assert second.detail.startswith("interrupts are refused that were taken before, and give way to a ")
    (compacted,) = of_kind(facts(stream.responses), "compacted")
    assert compacted.handled_interrupts == 1
    assert NUDGE in summary.messages[-1]["content"] + summary.messages[1]["content"]
    assert [message["role"] for message in last.messages].count("system") == 1
    assert NUDGE not in json.dumps(last.messages)
    assert "Look south." in last.messages[-1]["content"] + last.messages[-2]["content"]
