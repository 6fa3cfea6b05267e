"""Streams on any replica: of two services one is killed while it runs a session.

One client watches it there and goes on at the other, another has been watching at the other all the time."""

import asyncio
from collections.abc import Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest
import pytest_asyncio

from spark.agent.v1.event_pb2 import Event
from spark.agent.v1.message_pb2 import MESSAGE_TYPE_ASSISTANT
from tests.conftest import Postgres
from tests.e2e.client import Client, Door, Stream
from tests.e2e.databases import connected, holder_address, new_database
from tests.e2e.events import deltas, has, in_bytes, kind, last_revision, of_kind, rows
from tests.e2e.processes import running, spark_toml
from tests.e2e.sessions import create, deposit, turn
from tests.servers.chat import chat_server

CONFIG = {"model": "scripted", "disable_inner_voice": True}


@dataclass(frozen=True)
class Resumed:
    before_the_kill: list[Event]
    after_the_kill: list[Event]
    elsewhere: list[Event]
    # In the end, by a stream and from the database.
    whole: list[Event]
    recorded: list[tuple[int, str]]

    @property
    def pieced_together(self) -> list[Event]:
        return self.before_the_kill + self.after_the_kill


def brought(responses: Iterable) -> list[Event]:
    return [event for response in responses for event in response.events]


def said(text: str) -> object:
    """The condition that a text has come as deltas."""
    return lambda responses: text in "".join(event.text_delta.text for event in deltas(responses))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def resumed(postgres: Postgres, client: Client, tmp_path_factory: pytest.TempPathFactory) -> Resumed:
    database_url = await new_database(postgres)
    async with chat_server() as model, connected(database_url) as database, AsyncExitStack() as stack:
        settings = {
            "SPARK_DATABASE_URL": database_url,
            "SPARK_CONFIG": spark_toml(tmp_path_factory.mktemp("resume"), scripted=model.url),
            "SPARK_LEASE_SECONDS": "3",
            "SPARK_POLL_SECONDS": "0.2",
        }
        replicas = await asyncio.gather(
            *(stack.enter_async_context(running("agent_service", **settings)) for _ in range(2))
        )
        session_id = await create(client.agent(replicas[0].address), "Look around.", **CONFIG)
        asked = await model.asked()
        address = await holder_address(database, session_id)
        [holder] = [replica for replica in replicas if replica.address == address]
        [other] = [client.agent(replica.address) for replica in replicas if replica.address != address]

        async def watch(agent: Door, after_revision: int = 0) -> Stream:
            opening = {"session_id": session_id, "after_revision": after_revision, "include_deltas": True}
            return await stack.enter_async_context(agent.stream("StreamTranscript", **opening))

        at_holder, at_other = await watch(client.agent(holder.address)), await watch(other)
        await deposit(other, session_id, "Look north.")
        for stream in (at_holder, at_other):
            await stream.until(has("interrupt_posted"))
        await asked.say("To the ")
        for stream in (at_holder, at_other):
            await stream.until(said("To the "))
        await holder.kill()
        assert await at_holder.end()

        again = await watch(other, last_revision(at_holder.responses))
        asked = await model.asked()
        await asked.say("To the north.")
        for stream in (again, at_other):
            await stream.until(said("To the north."))
        await asked.answer(" All clear.")
        for stream in (again, at_other):
            await stream.until(has("turn_ended"))
        whole = await turn(other, session_id)
        recorded = await database.fetch(
            "SELECT revision, type FROM events WHERE session_id = $1 ORDER BY revision", session_id
        )
    return Resumed(
        brought(at_holder.responses),
        brought(again.responses),
        brought(at_other.responses),
        whole,
        [(row["revision"], row["type"]) for row in recorded],
    )


def of_facts(events: Iterable[Event]) -> list[Event]:
    return [event for event in events if event.revision]


def test_a_stream_that_is_opened_again_elsewhere_goes_on_without_a_gap_or_a_double(resumed: Resumed) -> None:
    assert of_facts(resumed.before_the_kill)
    assert in_bytes(of_facts(resumed.pieced_together)) == in_bytes(resumed.whole)


def test_a_stream_elsewhere_shows_the_same_and_outlives_the_holder(resumed: Resumed) -> None:
    assert in_bytes(of_facts(resumed.elsewhere)) == in_bytes(resumed.whole)


def test_streams_show_what_the_database_has(resumed: Resumed) -> None:
    assert [(event.revision, kind(event)) for event in resumed.whole] == resumed.recorded
    assert [revision for revision, _ in resumed.recorded] == list(range(1, len(resumed.recorded) + 1))


def test_the_turn_goes_on_at_the_other_replica(resumed: Resumed) -> None:
    rounds = of_kind(resumed.whole, "round_started")
    assert [(started.round, started.attempt) for started in rounds] == [(1, 1), (1, 2)]
    assert rows(resumed.whole)[-1].text == "To the north. All clear."


def test_text_is_heard_elsewhere_and_from_the_next_holder(resumed: Resumed) -> None:
    heard = [
        (event.text_delta.attempt, event.text_delta.text)
        for event in resumed.elsewhere
        if event.HasField("text_delta")
    ]
    assert heard[:2] == [(1, "To the "), (2, "To the north.")]


@pytest.mark.parametrize("seen", ["pieced_together", "elsewhere"])
def test_text_stands_between_the_start_of_its_round_and_its_message(resumed: Resumed, seen: str) -> None:
    events = getattr(resumed, seen)
    for n, event in enumerate(events):
        if event.HasField("text_delta"):
            started = of_kind(events[:n], "round_started")[-1]
            assert (event.text_delta.round, event.text_delta.attempt) == (started.round, started.attempt)
            assert not [row for row in rows(events[:n]) if row.type == MESSAGE_TYPE_ASSISTANT]
