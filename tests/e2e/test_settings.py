"""What the processes are told when they start, and what they say about it."""

import asyncio
import json
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest_asyncio

from tests.conftest import Postgres
from tests.e2e.client import Client
from tests.e2e.conftest import Spark
from tests.e2e.databases import connected, new_database
from tests.e2e.processes import run, running
from tests.e2e.sessions import create, nudge

NOBODY_LISTENS = "127.0.0.1:1"
# As Kubernetes makes for a service that is called spark.
OF_KUBERNETES = {"SPARK_SERVICE_HOST": "10.0.0.1"}
GOAL, NUDGE = "Find the blue lagoon.", "Mind the green reef."


async def test_health_exits_0_where_a_service_is_serving_and_1_where_none_is(spark: Spark) -> None:
    answers = await asyncio.gather(
        run("agent_service", "health", SPARK_AGENT_LISTEN=spark.agent.address),
        run("gateway", "health", SPARK_GATEWAY_LISTEN=spark.gateway.address),
        run("agent_service", "health", SPARK_AGENT_LISTEN=NOBODY_LISTENS),
        run("gateway", "health", SPARK_GATEWAY_LISTEN=NOBODY_LISTENS),
    )
    assert [code for code, _ in answers] == [0, 0, 1, 1]
    assert not any("Traceback" in said for _, said in answers)


async def test_what_a_service_cannot_start_with_stops_it_and_is_named(tmp_path: Path) -> None:
    toml = tmp_path / "spark.toml"
    local = '[models.local]\nbase_url = "http://127.0.0.1:8000/v1"\n'
    toml.write_text(f'{local}base_ulr = "oops"\n')
    elsewhere = tmp_path / "elsewhere.toml"
    elsewhere.write_text(f'{local}placement = "everywhere"\n')
    keyless = tmp_path / "keyless.toml"
    keyless.write_text('[tools.log]\nurl = "http://127.0.0.1:8000/mcp"\nheaders_env = { A = "LOG_KEY" }\n')
    starts = {
        "agent_service: headers_env: the variable LOG_KEY is not set": run(
            "agent_service", SPARK_CONFIG=str(keyless), SPARK_DATABASE_URL="postgresql://127.0.0.1:1/none"
        ),
        "agent_service: SPARK_LEASE_SECONDS: ": run("agent_service", SPARK_LEASE_SECONDS="soon"),
        f"agent_service: {toml}: unknown key models.local.base_ulr": run(
            "agent_service", SPARK_CONFIG=str(toml)
        ),
        f"agent_service: {elsewhere}: models.local.placement: Input should be 'auto', 'system', ": run(
            "agent_service", SPARK_CONFIG=str(elsewhere)
        ),
        "gateway: SPARK_AGENT_ADDRESS: ": run("gateway", SPARK_AGENT_ADDRESS="a:1,b:2"),
    }
    for named, (code, said) in zip(starts, await asyncio.gather(*starts.values()), strict=True):
        assert code == 2
        assert said.startswith(named)
        assert len(said.splitlines()) == 1


async def test_what_stops_a_service_on_its_way_up_is_named_as_plainly(database_url: str) -> None:
    async with connected(database_url) as database:
        await database.execute("UPDATE alembic_version SET version_num = '9999'")
        at_the_door = await run(
            "agent_service", SPARK_DATABASE_URL=database_url, SPARK_AGENT_LISTEN="0.0.0.0:0"
        )
        await database.execute("UPDATE schema_floor SET revision = '9999'")
        at_the_schema = await run("agent_service", SPARK_DATABASE_URL=database_url)
    starts = {
        "agent_service: SPARK_AGENT_LISTEN: 0.0.0.0:0 is not a loopback address": at_the_door,
        "agent_service: SPARK_DATABASE_URL: the schema of this database, 9999,": at_the_schema,
    }
    for named, (code, said) in starts.items():
        assert code == 2
        assert said.startswith(named)
        assert len(said.splitlines()) == 1


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def logs(postgres: Postgres, client: Client) -> dict[str, list[dict]]:
    """The lines that each service logs, with an unknown variable in its environment, while a nudge is posted
    and an agent works on it."""
    url = await new_database(postgres)
    settings = {"SPARK_DATABASE_URL": url, "SPARK_DEMO_PACE": "0", "SPARK_LOG_LEVEL": "debug"}
    async with (
        running("agent_service", PIPE, **settings, **OF_KUBERNETES) as agent,
        running("gateway", PIPE, SPARK_AGENT_ADDRESS=agent.address, **OF_KUBERNETES) as gateway,
    ):
        session_id = await create(
            client.agent(agent.address), GOAL, model="demo", mode="SESSION_MODE_ON_INTERRUPT"
        )
        door = client.gateway(gateway.address)
        posted = await door.call("PostInterrupt", interrupt=nudge(session_id, NUDGE))
        async with door.stream("WatchInterrupt", interrupt_id=posted.interrupt.interrupt_id) as watch:
            assert await watch.end() is None
        assert [await gateway.stop(), await agent.stop()] == [0, 0]
        said = {
            "agent_service": await agent.process.stderr.read(),
            "gateway": await gateway.process.stderr.read(),
        }
    return {name: [json.loads(line) for line in text.splitlines()] for name, text in said.items()}


def test_an_unknown_variable_is_only_logged(logs: dict[str, list[dict]]) -> None:
    for lines in logs.values():
        assert [line for line in lines if "SPARK_SERVICE_HOST" in json.dumps(line)]


def test_nothing_that_was_said_is_logged(logs: dict[str, list[dict]]) -> None:
    text = json.dumps(logs, ensure_ascii=False)
    assert "interrupt posted" in text
    assert "lagoon" not in text
    assert "reef" not in text


async def test_a_service_that_cannot_register_says_so_in_a_sentence(postgres: Postgres) -> None:
    url = await new_database(postgres)
    settings = {"SPARK_DATABASE_URL": url, "SPARK_LEASE_SECONDS": "0.5", "SPARK_AGENT_LISTEN": "127.0.0.1:0"}
    await run("agent_service", "migrate", **settings)
    async with connected(url) as connection, connection.transaction():
        await connection.execute("LOCK TABLE replicas")
        exit_code, said = await run("agent_service", **settings)
    assert exit_code == 2
    assert said.splitlines()[-1] == "agent_service: the database cannot be reached"
    assert "Traceback" not in said
