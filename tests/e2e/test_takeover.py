"""A replica that stands still loses its sessions to another one, and finds its way back."""

import asyncio
import json
from asyncio.subprocess import PIPE
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from spark.agent.v1.event_pb2 import Event
from tests.conftest import Postgres
from tests.e2e.client import Client
from tests.e2e.databases import connected, holder_address, new_database, until_registered_again
from tests.e2e.events import kind, of_kind, rows
from tests.e2e.processes import running, spark_toml
from tests.e2e.sessions import create, turn
from tests.servers.chat import chat_server
from tests.support import until

CONFIG = {"model": "scripted", "disable_inner_voice": True}


@dataclass(frozen=True)
class Takeover:
    events: list[Event]
    revision_at_takeover: int
    revision_after_thaw: int
    frozen_one_said: list[str]
    exit_code_of_other: int
    events_of_later_session: list[Event]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def takeover(postgres: Postgres, client: Client, tmp_path_factory: pytest.TempPathFactory) -> Takeover:
    """The holder of a session is frozen in the middle of a reply. It gets the rest of it when it is thawed,
    while the other replica has the same round in hand."""
    database_url = await new_database(postgres)
    async with chat_server() as model, connected(database_url) as database, AsyncExitStack() as services:
        config = spark_toml(tmp_path_factory.mktemp("takeover"), scripted=model.url)
        settings = {
            "SPARK_DATABASE_URL": database_url,
            "SPARK_CONFIG": config,
            "SPARK_LEASE_SECONDS": "2",
            "SPARK_POLL_SECONDS": "0.2",
        }
        replicas = await asyncio.gather(
            *(services.enter_async_context(running("agent_service", PIPE, **settings)) for _ in range(2))
        )
        session_id = await create(client.agent(replicas[0].address), "First.", **CONFIG)
        old_request = await model.asked("First.")
        await old_request.say("Old ")
        address = await holder_address(database, session_id)
        [frozen] = [replica for replica in replicas if replica.address == address]
        [other] = [replica for replica in replicas if replica.address != address]
        agent, thawed = client.agent(other.address), client.agent(frozen.address)

        frozen.freeze()
        new_request = await model.asked("First.")
        at_takeover = (await agent.call("GetSession", session_id=session_id)).session.revision
        await old_request.answer("words.")
        frozen.thaw()
        await until_registered_again(database, frozen.address)
        after_thaw = (await thawed.call("GetSession", session_id=session_id)).session.revision
        await new_request.answer("New words.")
        events = await turn(agent, session_id)
        exit_code = await other.stop()

        later_id = await create(thawed, "Later.", **CONFIG)
        await (await model.asked("Later.")).answer("Later words.")
        later = await turn(thawed, later_id)
        frozen.terminate()
        said = [json.loads(line)["event"] async for line in frozen.process.stderr]
    return Takeover(events, at_takeover, after_thaw, said, exit_code, later)


def test_another_replica_takes_the_session_over_in_the_open_turn(takeover: Takeover) -> None:
    assert [kind(event) for event in takeover.events] == [
        "session_changed",
        "turn_started",
        "message_appended",
        "round_started",
        "round_started",
        "message_appended",
        "turn_ended",
    ]
    attempts = [(started.round, started.attempt) for started in of_kind(takeover.events, "round_started")]
    assert attempts == [(1, 1), (1, 2)]


def test_the_frozen_one_writes_nothing_more_into_it(takeover: Takeover) -> None:
    assert takeover.revision_after_thaw == takeover.revision_at_takeover == 5
    assert rows(takeover.events)[-1].text == "New words."
    assert [event.revision for event in takeover.events] == list(range(1, 8))


def test_the_frozen_one_says_that_its_lease_is_gone(takeover: Takeover) -> None:
    assert "lease lapsed" in takeover.frozen_one_said


def test_the_frozen_one_lives_on_and_takes_new_work_when_the_other_has_gone(takeover: Takeover) -> None:
    assert takeover.exit_code_of_other == 0
    assert rows(takeover.events_of_later_session)[-1].text == "Later words."


async def test_one_that_thaws_before_anybody_came_goes_on_as_another(
    postgres: Postgres, client: Client, tmp_path: Path
) -> None:
    database_url = await new_database(postgres)
    async with chat_server() as model, connected(database_url) as database:
        settings = {"SPARK_LEASE_SECONDS": "2", "SPARK_POLL_SECONDS": "0.2"}
        config = spark_toml(tmp_path, scripted=model.url)
        async with running(
            "agent_service", SPARK_DATABASE_URL=database_url, SPARK_CONFIG=config, **settings
        ) as alone:
            agent = client.agent(alone.address)
            session_id = await create(agent, "First.", **CONFIG)
            request = await model.asked("First.")
            alone.freeze()

            async def is_over() -> bool:
                return await database.fetchval("SELECT lease_until < clock_timestamp() FROM replicas")

            await until(is_over)
            alone.thaw()
            await until_registered_again(database, alone.address)
            await request.given_up()
            await (await model.asked("First.")).answer("Words.")
            events = await turn(agent, session_id)
    attempts = [(started.round, started.attempt) for started in of_kind(events, "round_started")]
    assert attempts == [(1, 1), (1, 2)]
    assert [row.text for row in rows(events)][1:] == ["Words."]
