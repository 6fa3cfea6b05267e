"""SIGTERM: whoever watches is told at once, and what is under way is handed over to another replica."""

from dataclasses import dataclass

import pytest
import pytest_asyncio
from grpc_health.v1.health_pb2 import HealthCheckResponse

from spark.agent.v1.event_pb2 import Event
from spark.agent.v1.interrupt_pb2 import INTERRUPT_STATE_PENDING, INTERRUPT_STATE_SEEN
from tests.conftest import Postgres
from tests.e2e.client import Client, Door, Refused, Stream
from tests.e2e.databases import connected, new_database
from tests.e2e.events import facts, has, in_bytes, kind, last_revision, of_kind, rows
from tests.e2e.processes import running, spark_toml
from tests.e2e.sessions import create, nudge, turn
from tests.servers.chat import chat_server

# The reply to this one comes while the replica waits for its turns to leave off.
PATIENT = "Be patient."
# The reply to this one never comes.
CUT_OFF = "Be cut off."
CONFIG = {"model": "scripted", "disable_inner_voice": True}


@dataclass(frozen=True)
class Session:
    """What the two replicas showed of a session, one after the other, and what it is in the end."""

    first: list[Event]
    rest: list[Event]
    whole: list[Event]


@dataclass(frozen=True)
class Stopped:
    watch_end: Refused
    watched: list[int]
    gateway_exit: int
    stream_ends: list[Refused]
    at_work_when_streams_ended: bool
    health: list[int]
    agent_exit: int
    unclean_takeovers: int
    patient: Session
    cut_off: Session
    last_watched: list[int]


async def reopened(agent: Door, session_id: str, stream: Stream) -> Session:
    """A session of which a stream has brought the beginning, with the rest of it, and read again whole."""
    rest = await turn(agent, session_id, last_revision(stream.responses))
    return Session(facts(stream.responses), rest, await turn(agent, session_id))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stopped(postgres: Postgres, client: Client, tmp_path_factory: pytest.TempPathFactory) -> Stopped:
    """Two replies are awaited and one interrupt is pending when the gateway is stopped, then the replica."""
    url = await new_database(postgres)
    async with chat_server() as model, connected(url) as database:
        settings = {
            "SPARK_DATABASE_URL": url,
            "SPARK_CONFIG": spark_toml(tmp_path_factory.mktemp("stopping"), scripted=model.url),
            "SPARK_POLL_SECONDS": "0.2",
            "SPARK_DRAIN_SECONDS": "2",
        }
        async with (
            running("agent_service", **settings) as replica,
            running("gateway", SPARK_AGENT_ADDRESS=replica.address) as gateway,
        ):
            agent, door = client.agent(replica.address), client.gateway(gateway.address)
            patient_id = await create(agent, PATIENT, **CONFIG)
            patient_request = await model.asked(PATIENT)
            cut_off_id = await create(agent, CUT_OFF, **CONFIG)
            await model.asked(CUT_OFF)
            hurry = nudge(patient_id, "Hurry up.")
            interrupt_id = (await door.call("PostInterrupt", interrupt=hurry)).interrupt.interrupt_id

            async with door.stream("WatchInterrupt", interrupt_id=interrupt_id) as watch:
                await watch.until(bool)
                gateway.terminate()
                watch_end = await watch.end()
            gateway_exit = await gateway.exit_code()

            async with (
                running("agent_service", **settings) as successor,
                agent.stream("StreamTranscript", session_id=patient_id) as patient_stream,
                agent.stream("StreamTranscript", session_id=cut_off_id) as cut_off_stream,
                client.health(replica.address).stream("Watch") as health,
            ):
                await patient_stream.until(has("interrupt_posted"))
                await cut_off_stream.until(has("round_started"))
                await health.until(bool)
                replica.terminate()
                stream_ends = [await patient_stream.end(), await cut_off_stream.end()]
                at_work = replica.process.returncode is None
                await patient_request.call("call_1", "now")
                patient_again = await model.asked(PATIENT)
                cut_off_again = await model.asked(CUT_OFF)
                unclean_takeovers = await database.fetchval("SELECT sum(attempts) FROM sessions")
                agent_exit = await replica.exit_code()
                await patient_again.answer("I hurry.")
                await cut_off_again.answer("As if nothing had happened.")
                agent = client.agent(successor.address)
                patient = await reopened(agent, patient_id, patient_stream)
                cut_off = await reopened(agent, cut_off_id, cut_off_stream)
                async with agent.stream("WatchInterrupt", interrupt_id=interrupt_id) as last_watch:
                    assert await last_watch.end() is None
    return Stopped(
        watch_end,
        [response.interrupt.state for response in watch.responses],
        gateway_exit,
        stream_ends,
        at_work,
        [response.status for response in health.responses],
        agent_exit,
        unclean_takeovers,
        patient,
        cut_off,
        [response.interrupt.state for response in last_watch.responses],
    )


def test_a_stopping_gateway_ends_its_watches_and_exits_cleanly(stopped: Stopped) -> None:
    assert stopped.watched == [INTERRUPT_STATE_PENDING]
    assert (stopped.watch_end.code, stopped.watch_end.reason) == ("UNAVAILABLE", "UNAVAILABLE")
    assert stopped.gateway_exit == 0


def test_a_stopping_replica_ends_its_streams_at_once_with_its_turns_still_under_way(stopped: Stopped) -> None:
    assert [(end.code, end.reason) for end in stopped.stream_ends] == [("UNAVAILABLE", "UNAVAILABLE")] * 2
    assert stopped.at_work_when_streams_ended


def test_its_health_says_that_it_is_not_serving_and_it_exits_cleanly(stopped: Stopped) -> None:
    assert stopped.health == [HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING]
    assert stopped.agent_exit == 0


def test_a_turn_that_comes_to_a_safe_point_in_time_is_handed_over_there(stopped: Stopped) -> None:
    handed_over = [kind(event) for event in stopped.patient.whole]
    assert handed_over[3:] == [
        "round_started",
        "interrupt_posted",
        "message_appended",
        "tool_call_started",
        "message_appended",
        "interrupt_delivered",
        "round_started",
        "interrupt_seen",
        "message_appended",
        "turn_ended",
    ]
    attempts = [(begun.round, begun.attempt) for begun in of_kind(stopped.patient.whole, "round_started")]
    assert attempts == [(1, 1), (2, 1)]
    assert rows(stopped.patient.whole)[-1].text == "I hurry."
    assert stopped.last_watched == [INTERRUPT_STATE_SEEN]


def test_a_turn_that_does_not_is_cut_off_and_its_round_asked_again(stopped: Stopped) -> None:
    assert [kind(event) for event in stopped.cut_off.whole[3:]] == [
        "round_started",
        "round_started",
        "message_appended",
        "turn_ended",
    ]
    attempts = [(begun.round, begun.attempt) for begun in of_kind(stopped.cut_off.whole, "round_started")]
    assert attempts == [(1, 1), (1, 2)]


def test_a_clean_stop_counts_as_no_crash(stopped: Stopped) -> None:
    assert stopped.unclean_takeovers == 0


def test_a_stream_reopened_at_another_replica_goes_on_where_it_ended(stopped: Stopped) -> None:
    for session in (stopped.patient, stopped.cut_off):
        assert session.first
        assert session.rest
        assert in_bytes([*session.first, *session.rest]) == in_bytes(session.whole)
