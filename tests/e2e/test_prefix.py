"""What a model's server has to read again in a long session: llama.cpp's own count, request by request.

Each request begins with all of the one before it, but for its last block.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from uuid import uuid4

import grpc
import pytest
import pytest_asyncio

from spark.agent.v1.agent_service_pb2 import CreateSessionRequest
from spark.agent.v1.agent_service_pb2_grpc import AgentServiceStub
from spark.agent.v1.interrupt_pb2 import INTERRUPT_STATE_DELIVERED, INTERRUPT_STATE_SEEN
from spark.agent.v1.session_pb2 import Session, SessionConfig
from spark.gateway.v1.gateway_service_pb2_grpc import GatewayServiceStub
from tests.conftest import Postgres
from tests.e2e.databases import new_database
from tests.e2e.long_sessions import LongSession
from tests.e2e.processes import Service, running
from tests.servers.chat_template import OWN
from tests.servers.front import Front, front_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

# vLLM has whole blocks of so many tokens at hand; llama.cpp counts each token.
BLOCK_TOKENS = 16
CONTEXT, SMALL_CONTEXT = 16_384, 3_000
ROUNDS = 30

# One for each place of interrupts, and one that no longer shows what the model thought once the user speaks,
# interrupt or not.
FORGETFUL = "forgets_reasoning"
SUMMARIZED = ("takes_system", "wants_the_assistant_after_tools", "alternates")
TEMPLATES = (*SUMMARIZED, "drops_late_system", FORGETFUL)
CARELESS = "moves_system_first"


@dataclass(frozen=True)
class House:
    """Its models are called as their templates are."""

    fronts: dict[str, Front]
    settings: dict[str, str]
    agent: Service
    to_agent: AgentServiceStub
    to_gateway: GatewayServiceStub

    async def session(self, template: str, model: str = "") -> LongSession:
        config = SessionConfig(model=model or template, tools=["now", "wait", "note"])
        session = Session(goal=f"Keep the lamp {uuid4().hex} lit.", config=config)
        created = (await self.to_agent.CreateSession(CreateSessionRequest(session=session))).session
        return LongSession(self.fronts[template], self.to_agent, self.to_gateway, created)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fronts() -> AsyncIterator[dict[str, Front]]:
    async with AsyncExitStack() as stack:
        yield {
            name: await stack.enter_async_context(front_of(OWN / f"{name}.jinja", CONTEXT))
            for name in (*TEMPLATES, CARELESS)
        }


@pytest.fixture(scope="module")
def config(fronts: dict[str, Front], tmp_path_factory: pytest.TempPathFactory) -> str:
    def table(name: str, template: str, more: str = "") -> str:
        return f'[models.{name}]\nbase_url = "{fronts[template].url}"\nmodel = "tiny"\n{more}\n'

    path = tmp_path_factory.mktemp("prefix") / "spark.toml"
    path.write_text(
        "".join(table(name, name) for name in TEMPLATES)
        + "".join(table(f"small-{name}", name, f"context_window = {SMALL_CONTEXT}") for name in SUMMARIZED)
        + table(CARELESS, CARELESS, 'placement = "system"')
    )
    return str(path)


@asynccontextmanager
async def house_of(postgres: Postgres, fronts: dict[str, Front], config: str) -> AsyncIterator[House]:
    settings = {
        "SPARK_DATABASE_URL": await new_database(postgres),
        "SPARK_CONFIG": config,
        "SPARK_DRAIN_SECONDS": "0.5",
        # A request that is open when a lease runs out is asked again.
        "SPARK_LEASE_SECONDS": "60",
    }
    async with (
        running("agent_service", **settings) as agent,
        running("gateway", SPARK_AGENT_ADDRESS=agent.address) as gateway,
        grpc.aio.insecure_channel(agent.address) as to_agent,
        grpc.aio.insecure_channel(gateway.address) as to_gateway,
    ):
        yield House(fronts, settings, agent, AgentServiceStub(to_agent), GatewayServiceStub(to_gateway))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(postgres: Postgres, fronts: dict[str, Front], config: str) -> AsyncIterator[House]:
    async with house_of(postgres, fronts, config) as house:
        yield house


def check(session: LongSession, forgets: bool = False) -> None:
    """A forgetful template changes what it shows of a turn when the user opens the next one."""
    again = [tokens for read, tokens in session.read_again() if not (forgets and read.opens_turn)]
    assert max(again) <= BLOCK_TOKENS, again


@pytest.mark.parametrize("name", TEMPLATES)
async def test_only_the_last_block_is_read_again_wherever_interrupts_come(house: House, name: str) -> None:
    async with await house.session(name) as session:
        await session.go_on(ROUNDS)
        last = await session.look_at(await session.asked())
        delivered = await session.interrupts(INTERRUPT_STATE_DELIVERED, INTERRUPT_STATE_SEEN)
    check(session, name == FORGETFUL)
    assert last.interrupts == delivered > ROUNDS / 2


@pytest.mark.parametrize("name", SUMMARIZED)
async def test_a_summary_is_made_of_what_is_at_hand_and_from_there_on_nothing_changes(
    house: House, name: str
) -> None:
    async with await house.session(name, f"small-{name}") as session:
        while not any(read.is_for_summary for read in session.read):
            await session.go_on(1)
        await session.go_on(8)
    check(session)


async def test_another_process_goes_on_with_the_same_bytes(
    postgres: Postgres, fronts: dict[str, Front], config: str
) -> None:
    async with house_of(postgres, fronts, config) as house:
        session = await house.session("takes_system")
        await session.go_on(10)
        unanswered = await session.asked()
        await house.agent.stop()
        settings = house.settings | {"SPARK_AGENT_LISTEN": house.agent.address}
        async with running("agent_service", **settings), session:
            again = await session.asked()
            assert again.body == unanswered.body
            await session.go_on_with(again)
            await session.go_on(10)
    check(session)


async def test_where_interrupts_are_put_first_the_same_count_shows_it(house: House) -> None:
    """A template that moves them, and a configuration that has it so."""
    async with await house.session(CARELESS) as session:
        await session.go_on(10)
    assert max(tokens for _, tokens in session.read_again()) > 10 * BLOCK_TOKENS
