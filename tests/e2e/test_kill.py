"""kill -9: one turn through four lives of the service, each but the last cut off at another moment."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import pytest_asyncio

from spark.agent.v1.event_pb2 import Event
from spark.agent.v1.interrupt_pb2 import INTERRUPT_STATE_PENDING, INTERRUPT_STATE_SEEN, Interrupt
from spark.agent.v1.message_pb2 import (
    MESSAGE_TYPE_ASSISTANT,
    MESSAGE_TYPE_TOOL_CALL,
    MESSAGE_TYPE_TOOL_RESPONSE,
    MESSAGE_TYPE_USER,
)
from tests.conftest import Postgres
from tests.e2e.client import Client, Door, Stream
from tests.e2e.databases import before_tool_responses, new_database
from tests.e2e.events import deltas, facts, has, in_bytes, kind, of_interrupt, of_kind, rows
from tests.e2e.processes import running, spark_toml
from tests.e2e.sessions import create, deposit, turn
from tests.servers.chat import chat_server

CONFIG = {"model": "scripted", "mode": "SESSION_MODE_ON_INTERRUPT", "disable_inner_voice": True}


@dataclass(frozen=True)
class Life:
    agent: Door
    stream: Stream


@dataclass
class Lives:
    client: Client
    settings: dict[str, str]
    session_id: str = ""
    # What the streams brought, each opened where the one before it broke off.
    pieces: list[list[Event]] = field(default_factory=list)

    @asynccontextmanager
    async def life(self) -> AsyncIterator[Life]:
        """A service on the same database, and a stream of the session. Ends with kill -9."""
        async with running("agent_service", **self.settings) as service:
            agent = self.client.agent(service.address)
            self.session_id = self.session_id or await create(agent, "Look around.", **CONFIG)
            last = max((event.revision for piece in self.pieces for event in piece), default=0)
            async with agent.stream(
                "StreamTranscript", session_id=self.session_id, after_revision=last, include_deltas=True
            ) as stream:
                yield Life(agent, stream)
                await service.kill()
                assert await stream.end()
        self.pieces.append(facts(stream.responses))


@dataclass(frozen=True)
class Survivor:
    """What there is of the session in the end."""

    events: list[Event]
    pieces: list[list[Event]]
    prompts: list[dict]
    first: Interrupt
    second: Interrupt
    # Read in the last life.
    first_now: Interrupt
    second_now: Interrupt


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def survivor(postgres: Postgres, client: Client, tmp_path_factory: pytest.TempPathFactory) -> Survivor:
    database_url = await new_database(postgres)
    async with chat_server() as model:
        config = spark_toml(tmp_path_factory.mktemp("kill"), scripted=model.url)
        settings = {"SPARK_DATABASE_URL": database_url, "SPARK_CONFIG": config, "SPARK_LEASE_SECONDS": "2"}
        lives = Lives(client, settings)
        # While the model streams, and between a post and its delivery.
        async with lives.life() as life:
            first = await deposit(life.agent, lives.session_id, "Look north.")
            await (await model.asked()).say("Half a sen")
            await life.stream.until(deltas)
            second = await deposit(life.agent, lives.session_id, "Look south.")
            await life.stream.until(has("interrupt_posted", 2))
        # Between the delivery and the first chunk of a reply.
        async with lives.life() as life:
            await model.asked()
            await life.stream.until(has("interrupt_delivered"))
        # Between a tool call and its response.
        async with before_tool_responses(database_url) as somebody_tries, lives.life() as life:
            await (await model.asked()).call("call_1", "now")
            await somebody_tries()
            await life.stream.until(has("tool_call_started"))
        async with lives.life() as life:
            await (await model.asked()).answer("North and south are clear.")
            await life.stream.until(has("turn_ended"))
            whole = await turn(life.agent, lives.session_id)
            now = [
                (await life.agent.call("GetInterrupt", interrupt_id=one.interrupt_id)).interrupt
                for one in (first, second)
            ]
    prompts = [asked.body for asked in model.received]
    return Survivor(whole, lives.pieces, prompts, first, second, *now)


def test_the_open_turn_goes_on_where_it_stood_and_is_not_started_again(survivor: Survivor) -> None:
    assert [started.turn for started in of_kind(survivor.events, "turn_started")] == [1]
    rounds = of_kind(survivor.events, "round_started")
    assert [(started.round, started.attempt) for started in rounds] == [(1, 1), (1, 2), (1, 3), (2, 1)]
    assert [row.type for row in rows(survivor.events)] == [
        MESSAGE_TYPE_USER,
        MESSAGE_TYPE_TOOL_CALL,
        MESSAGE_TYPE_TOOL_RESPONSE,
        MESSAGE_TYPE_ASSISTANT,
    ]


def test_a_kill_is_no_failure_of_the_model(survivor: Survivor) -> None:
    assert of_kind(survivor.events, "round_failed") == []


def test_a_call_that_was_cut_off_is_run_again_where_that_is_safe(survivor: Survivor) -> None:
    _, call, response, _ = rows(survivor.events)
    assert response.tool_response.call_id == call.tool_call.call_id == "call_1"
    assert not response.tool_response.is_error
    assert response.position == call.position + 1
    assert len(of_kind(survivor.events, "tool_call_started")) == 2


def test_an_acknowledged_interrupt_is_delivered_once_and_seen_once(survivor: Survivor) -> None:
    for interrupt in (survivor.first, survivor.second):
        assert interrupt.state == INTERRUPT_STATE_PENDING
        assert of_interrupt(survivor.events, interrupt.interrupt_id) == [
            "interrupt_posted",
            "interrupt_delivered",
            "interrupt_seen",
        ]
    assert survivor.first_now.state == survivor.second_now.state == INTERRUPT_STATE_SEEN
    assert (survivor.first_now.position, survivor.first_now.round) == (1, 0)
    assert (survivor.second_now.position, survivor.second_now.round) == (3, 1)


def test_each_fact_about_an_interrupt_is_from_the_life_in_which_it_happened(survivor: Survivor) -> None:
    def told(piece: list[Event]) -> list[str]:
        return [kind(event) for event in piece if kind(event).startswith("interrupt_")]

    assert [told(piece) for piece in survivor.pieces] == [
        ["interrupt_posted", "interrupt_delivered", "interrupt_seen", "interrupt_posted"],
        ["interrupt_delivered"],
        ["interrupt_seen"],
        [],
    ]


def test_a_request_is_built_again_as_it_was_and_only_grows(survivor: Survivor) -> None:
    first, nudged, nudged_again, answering = [
        [json.dumps(message) for message in prompt["messages"]] for prompt in survivor.prompts
    ]
    assert nudged[:-1] == first
    assert "Look south." in nudged[-1]
    assert nudged_again == nudged
    assert answering[:-2] == nudged
    assert [json.loads(message)["role"] for message in answering[-2:]] == ["assistant", "tool"]


def test_the_tools_are_offered_in_the_same_bytes_every_time(survivor: Survivor) -> None:
    assert len({json.dumps(prompt["tools"]) for prompt in survivor.prompts}) == 1


def test_revisions_have_no_gaps(survivor: Survivor) -> None:
    assert [event.revision for event in survivor.events] == list(range(1, len(survivor.events) + 1))


def test_a_reopened_stream_yields_exactly_the_rest(survivor: Survivor) -> None:
    assert all(survivor.pieces)
    pieced_together = [event for piece in survivor.pieces for event in piece]
    assert in_bytes(pieced_together) == in_bytes(survivor.events)
