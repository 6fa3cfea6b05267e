"""What is asked of one replica another one obeys, which holds the session, in the middle of a request."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import grpc
import pytest
import pytest_asyncio

from spark.agent.v1.agent_service_pb2 import UpdateSessionRequest
from spark.agent.v1.agent_service_pb2_grpc import AgentServiceStub
from spark.agent.v1.interrupt_pb2 import INTERRUPT_STATE_CANCELLED
from spark.agent.v1.session_pb2 import ACTIVITY_RUNNING, SESSION_STATE_ENDED, SESSION_STATE_PAUSED, Session
from tests.conftest import Postgres
from tests.e2e.client import Client, Door
from tests.e2e.databases import Connection, connected, holder_address, new_database
from tests.e2e.events import facts, kind, of_kind
from tests.e2e.processes import running, spark_toml
from tests.e2e.sessions import create, deposit, turn
from tests.servers.chat import Asked, ChatServer, chat_server

# The services live as long as the module.
pytestmark = pytest.mark.asyncio(loop_scope="module")

CONFIG = {"model": "scripted", "disable_inner_voice": True, "mode": "SESSION_MODE_ON_INTERRUPT"}


@dataclass(frozen=True)
class Pair:
    doors: Sequence[Door]
    model: ChatServer
    database: Connection

    async def at_work(self, goal: str) -> tuple[str, Asked, Door]:
        """A session in the middle of a request, and the replica that does not hold it."""
        session_id = await create(self.doors[0], goal, **CONFIG)
        await deposit(self.doors[0], session_id, "Begin.")
        request = await self.model.asked(goal)
        holder = await holder_address(self.database, session_id)
        [other] = [door for door in self.doors if door.address != holder]
        return session_id, request, other


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair(
    postgres: Postgres, client: Client, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Pair]:
    url = await new_database(postgres)
    async with chat_server() as model, connected(url) as database:
        settings = {
            "SPARK_DATABASE_URL": url,
            "SPARK_CONFIG": spark_toml(tmp_path_factory.mktemp("any_replica"), scripted=model.url),
            "SPARK_POLL_SECONDS": "0.2",
        }
        async with running("agent_service", **settings) as one, running("agent_service", **settings) as two:
            yield Pair([client.agent(one.address), client.agent(two.address)], model, database)


async def test_the_end_of_a_session_cuts_its_request_off_and_nothing_follows(pair: Pair) -> None:
    session_id, request, other = await pair.at_work("End.")
    ended = (await other.call("EndSession", session_id=session_id)).session
    await request.given_up()
    async with other.stream("StreamTranscript", session_id=session_id) as stream:
        assert await stream.end() is None
    assert ended.state == SESSION_STATE_ENDED
    assert facts(stream.responses)[-1].session_changed.session.revision == ended.revision


async def test_a_pause_takes_effect_at_the_next_safe_point_and_a_resume_goes_on_there(pair: Pair) -> None:
    session_id, request, other = await pair.at_work("Pause.")
    paused = (await other.call("PauseSession", session_id=session_id)).session
    await request.call("call_1", "now")
    async with other.stream("StreamTranscript", session_id=session_id) as stream:
        await stream.until(lambda responses: len(of_kind(facts(responses), "message_appended")) == 3)
        await other.call("ResumeSession", session_id=session_id)
    await (await pair.model.asked("call_1")).answer("It is noon.")
    events = await turn(other, session_id)
    assert paused.state == SESSION_STATE_PAUSED
    assert [kind(event) for event in events[-10:]] == [
        "round_started",
        "session_changed",
        "interrupt_seen",
        "message_appended",
        "tool_call_started",
        "message_appended",
        "session_changed",
        "round_started",
        "message_appended",
        "turn_ended",
    ]


async def test_an_update_counts_from_the_next_turn(pair: Pair) -> None:
    session_id, request, other = await pair.at_work("Update.")
    await _change_goal(other, session_id, "Count the ships.")
    await request.answer("I keep it.")
    await turn(other, session_id)
    await deposit(other, session_id, "Again.")
    next_request = await pair.model.asked("Count the ships.")
    assert "Update." not in str(next_request.messages[0])
    await next_request.answer("Three.")


async def _change_goal(agent: Door, session_id: str, goal: str) -> None:
    """By generated code: the client programs do not agree on how a mask is written in JSON."""
    request = UpdateSessionRequest(session=Session(session_id=session_id, goal=goal))
    request.update_mask.FromJsonString("goal")
    async with grpc.aio.insecure_channel(agent.address) as channel:
        await AgentServiceStub(channel).UpdateSession(request)


async def test_a_cancelled_interrupt_is_not_in_the_next_request(pair: Pair) -> None:
    session_id, request, other = await pair.at_work("Cancel.")
    wrong = await deposit(other, session_id, "Look south.")
    await deposit(other, session_id, "Look north.")
    cancelled = (await other.call("CancelInterrupt", interrupt_id=wrong.interrupt_id)).interrupt
    await request.call("call_2", "now")
    next_request = await pair.model.asked("call_2")
    assert cancelled.state == INTERRUPT_STATE_CANCELLED
    assert "Look north." in str(next_request.messages)
    assert "Look south." not in str(next_request.messages)
    await next_request.answer("I looked.")


async def test_every_replica_shows_the_same(pair: Pair) -> None:
    session_id, request, other = await pair.at_work("Show.")
    by_session = {"session_id": session_id}
    asked = [
        ("GetSession", by_session),
        ("ListSessions", {}),
        ("ListMessages", by_session),
        ("ListInterrupts", by_session),
    ]
    shown = [[await door.call(method, **fields) for method, fields in asked] for door in pair.doors]
    assert shown[0] == shown[1]
    assert shown[0][0].session.activity == ACTIVITY_RUNNING
    await request.answer("Seen.")
    assert await turn(other, session_id)
