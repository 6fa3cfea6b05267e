"""Interrupts and chat templates, with a real server that makes the prompts: llama.cpp's."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest
import pytest_asyncio

from spark.agent.v1.event_pb2 import ROUND_FAILURE_MODEL_REFUSED, Event
from spark.agent.v1.model_pb2 import EVIDENCE_RENDERED, Placement
from tests.conftest import Postgres
from tests.e2e.client import Client, Door
from tests.e2e.databases import connected, new_database
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


@dataclass(frozen=True)
class House:
    agent: Door
    fronts: dict[str, Front]
    database_url: str

    async def session(self, model: str) -> str:
        return await create(
            self.agent, "Keep the lamp lit.", model=model, tools=["now"], disable_inner_voice=True
        )


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
        url = await new_database(postgres)
        service = await stack.enter_async_context(
            running("agent_service", SPARK_DATABASE_URL=url, SPARK_CONFIG=str(config))
        )
        yield House(client.agent(service.address), fronts, url)


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
    front.refuses = lambda body: any(message["role"] == "system" for message in body["messages"][1:])
    events, answering, nudge = await nudged(house, name)
    front.refuses = never
    (failed,) = of_kind(events, "round_failed")
    assert failed.reason == ROUND_FAILURE_MODEL_REFUSED
    assert failed.detail.startswith("interrupts are refused as system, and are placed as user from now on: ")
    assert of_interrupt(events, nudge) == ["interrupt_posted", "interrupt_delivered", "interrupt_seen"]
    *_, last = answering.messages
    assert last["role"] == "user"
    assert NUDGE in last["content"]
    async with connected(house.database_url) as connection:
        kept = await connection.fetchval(
            "SELECT evidence FROM model_profiles WHERE server = $1 AND profile->>'placement' = 'user'",
            front.url,
        )
    assert kept == "stepped_down"
