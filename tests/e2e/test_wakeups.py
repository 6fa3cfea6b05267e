"""Two replicas tell each other what happens. They poll once a minute, and nobody in here waits so long."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest
import pytest_asyncio

from spark.agent.v1.event_pb2 import ROUND_FAILURE_INTERRUPTED
from spark.agent.v1.interrupt_pb2 import INTERRUPT_STATE_SEEN
from tests.conftest import Postgres
from tests.e2e.client import Client, Door
from tests.e2e.databases import Connection, connected, holder_address, new_database
from tests.e2e.events import facts, has, of_interrupt, of_kind, rows
from tests.e2e.processes import running, spark_toml
from tests.e2e.sessions import create, deposit, nudge
from tests.servers.chat import ChatServer, chat_server
from tests.support import until

# The services live as long as the module.
pytestmark = pytest.mark.asyncio(loop_scope="module")

CONFIG = {"model": "scripted", "disable_inner_voice": True}


@dataclass(frozen=True)
class Pair:
    here: Door
    there: Door
    model: ChatServer
    database: Connection
    settings: dict[str, str]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair(
    postgres: Postgres, client: Client, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Pair]:
    url = await new_database(postgres)
    async with chat_server() as model, connected(url) as database, AsyncExitStack() as services:
        settings = {
            "SPARK_DATABASE_URL": url,
            "SPARK_CONFIG": spark_toml(tmp_path_factory.mktemp("wakeups"), scripted=model.url),
            "SPARK_POLL_SECONDS": "60",
        }
        doors = []
        for _ in range(2):
            replica = await services.enter_async_context(running("agent_service", **settings))
            doors.append(client.agent(replica.address))
        yield Pair(*doors, model, database, settings)


async def test_a_session_is_claimed_where_a_post_was_taken_and_watched_anywhere(pair: Pair) -> None:
    session_id = await create(pair.here, "Sleep well.", mode="SESSION_MODE_ON_INTERRUPT", **CONFIG)
    async with pair.there.stream("StreamTranscript", session_id=session_id) as stream:
        await stream.until(has("session_changed"))
        for door, words in ((pair.here, "Good morning."), (pair.there, "Good night.")):
            await deposit(door, session_id, words)
            asked = await pair.model.asked(words)
            assert await holder_address(pair.database, session_id) == door.address
            await asked.answer(f"{words} too.")
            await stream.until(lambda so_far, words=words: words in str(rows(facts(so_far))))
        await stream.until(has("turn_ended", 2))


async def test_an_immediate_nudge_cancels_a_request_of_the_other_replica(pair: Pair) -> None:
    session_id = await create(pair.here, "Talk and talk.", **CONFIG)
    await (await pair.model.asked("Talk and talk.")).say("I talk ")
    assert await holder_address(pair.database, session_id) == pair.here.address
    immediate = nudge(session_id, "Stop talking.") | {"delivery": "DELIVERY_IMMEDIATE"}
    async with pair.there.stream("StreamTranscript", session_id=session_id) as stream:
        deposits = [{"interrupt": immediate, "request_id": "stop"}]
        [result] = (await pair.there.call("DepositInterrupts", deposits=deposits)).results
        await (await pair.model.asked("Stop talking.")).answer("I am silent.")
        await stream.until(has("turn_ended"))
        events = facts(stream.responses)
    assert [failed.reason for failed in of_kind(events, "round_failed")] == [ROUND_FAILURE_INTERRUPTED]
    assert of_interrupt(events, result.interrupt.interrupt_id)[-1] == "interrupt_seen"


async def test_an_interrupt_at_one_replica_wakes_what_waits_since_it_was_at_the_other(pair: Pair) -> None:
    session_id = await create(pair.here, "Wait for me.", tools=["wait"], **CONFIG)
    async with pair.here.stream("StreamTranscript", session_id=session_id) as stream:
        await (await pair.model.asked("Wait for me.")).call("call_1", "wait", '{"seconds": 3600}')

        async def parked() -> bool:
            return await holder_address(pair.database, session_id) is None

        await stream.until(has("message_appended"))
        await until(parked)
        posted = await deposit(pair.there, session_id, "Here I am.")
        await (await pair.model.asked("Here I am.")).answer("Welcome.")
        await stream.until(has("turn_ended"))
    assert of_interrupt(facts(stream.responses), posted.interrupt_id)[-1] == "interrupt_seen"


async def test_an_interrupt_is_watched_at_a_replica_that_does_not_run_its_session(pair: Pair) -> None:
    session_id = await create(pair.here, "Be watched.", **CONFIG)
    asked = await pair.model.asked("Be watched.")
    posted = await deposit(pair.here, session_id, "Look at me.")
    async with pair.there.stream("WatchInterrupt", interrupt_id=posted.interrupt_id) as watch:
        await watch.until(bool)
        await asked.call("call_1", "now")
        await (await pair.model.asked("Look at me.")).answer("I do.")
        assert await watch.end() is None
    assert watch.responses[-1].interrupt.state == INTERRUPT_STATE_SEEN


async def test_what_a_stopping_replica_hands_over_goes_on_at_once(pair: Pair) -> None:
    async with running("agent_service", **pair.settings) as leaving:
        door = Door(pair.here.program, leaving.address, pair.here.service)
        session_id = await create(door, "Go on elsewhere.", **CONFIG)
        asked = await pair.model.asked("Go on elsewhere.")
        async with pair.there.stream("StreamTranscript", session_id=session_id) as stream:
            leaving.terminate()
            await asked.call("call_1", "now")
            await (await pair.model.asked("Go on elsewhere.")).answer("I went on.")
            await stream.until(has("turn_ended"))
        assert await leaving.exit_code() == 0
