"""A message for an agent, whatever the agent is doing when it is posted: it is in the transcript once, at the
next safe point, and in every request from then on, always in the same bytes.

Real processes, with a model server that answers as the test says.
"""

import json
from asyncio import create_task, gather
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from agent_service.model import SUMMARY_MARK
from spark.agent.v1.interrupt_pb2 import (
    INTERRUPT_STATE_CANCELLED,
    INTERRUPT_STATE_EXPIRED,
    INTERRUPT_STATE_PENDING,
    INTERRUPT_STATE_SEEN,
)
from spark.agent.v1.message_pb2 import MESSAGE_TYPE_TOOL_CALL, MESSAGE_TYPE_TOOL_RESPONSE
from tests.conftest import Postgres
from tests.e2e.client import Client
from tests.e2e.conformance import House, calls, frames, held_back, line, spark_toml
from tests.e2e.databases import Connection, connected, new_database
from tests.e2e.events import kind, of_interrupt, of_kind, rows
from tests.e2e.processes import running
from tests.servers.chat import chat_server
from tests.support import until

# The services live as long as the module.
pytestmark = pytest.mark.asyncio(loop_scope="module")

LONG = "The watch is long, and the sea is calm. " * 30


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(
    postgres: Postgres, client: Client, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[House]:
    url = await new_database(postgres)
    async with chat_server() as model:
        config = spark_toml(tmp_path_factory.mktemp("conformance"), model.url)
        settings = {"SPARK_DATABASE_URL": url, "SPARK_CONFIG": config, "SPARK_POLL_SECONDS": "0.2"}
        async with (
            running("agent_service", **settings) as agent,
            running("gateway", SPARK_AGENT_ADDRESS=agent.address) as gateway,
        ):
            yield House(client.agent(agent.address), client.gateway(gateway.address), model, url)


# ---- posted while the agent is at something


async def test_posted_before_the_first_word_of_a_reply(house: House) -> None:
    session = await house.session("Before the first word.")
    asked = await session.asked()
    posted = await session.post("Look north.")
    await calls(asked, "now")
    await (await session.asked()).answer("I look north.")
    await session.check_seen_once(await session.events(), posted)
    assert session.shown("Look north.")[0] == []


async def test_posted_in_the_middle_of_a_reply(house: House) -> None:
    session = await house.session("In the middle of a reply.")
    asked = await session.asked()
    await asked.say("It is ")
    posted = await session.post("Look north.")
    await asked.say("late.")
    await calls(asked, "now")
    await (await session.asked()).answer("I look north.")
    events = await session.events()
    await session.check_seen_once(events, posted)
    assert of_kind(events, "round_failed") == []
    assert (await session.now(posted)).position == rows(events)[-1].position - 1


async def test_posted_while_tools_run_side_by_side(house: House, tmp_path: Path) -> None:
    session = await house.session("Two tools at once.", tools=["keeper"])
    arguments = json.dumps({"path": str(tmp_path / "stopped")})
    await calls(await session.asked(), *["keeper_wait_for_ever"] * 2, arguments=arguments)
    await session.events("tool_call_started", 2)
    patient = await session.post("Look north.")
    assert (await session.now(patient)).state == INTERRUPT_STATE_PENDING
    immediate = await session.post("Stop waiting.", delivery="DELIVERY_IMMEDIATE")
    await (await session.asked()).answer("I look north.")
    events = await session.events()
    await session.check_seen_once(events, patient, immediate)
    assert [row.type for row in rows(events)[1:-1]] == [MESSAGE_TYPE_TOOL_CALL] * 2 + [
        MESSAGE_TYPE_TOOL_RESPONSE
    ] * 2
    assert (await session.now(patient)).position == rows(events)[-2].position + 1


async def test_posted_while_the_responses_of_parallel_calls_are_written(house: House) -> None:
    session = await house.session("Two responses at once.")
    asked = await session.asked()
    async with held_back(house.database_url, "tool_response") as until_waiting:
        await calls(asked, "now", "now")
        await until_waiting(1)
        posting = create_task(session.post("Look north."))
        await until_waiting(2)
    posted = await posting
    await (await session.asked()).answer("I look north.")
    events = await session.events()
    await session.check_seen_once(events, posted)
    assert (await session.now(posted)).position == rows(events)[-1].position - 1
    assert [message["role"] for message in session.requests[-1][-3:]] == ["tool", "tool", "system"]


async def test_posted_in_the_middle_of_the_last_words_of_a_turn(house: House) -> None:
    session = await house.session("The last words.")
    asked = await session.asked()
    await asked.say("All is ")
    posted = await session.post("Look north.")
    await asked.answer("calm.")
    await (await session.asked()).answer("I look north.")
    events = await session.events(count=2)
    await session.check_seen_once(events, posted)
    assert (await session.now(posted)).turn == 2


async def test_posted_between_the_last_words_of_a_turn_and_the_release(house: House) -> None:
    session = await house.session("From busy to idle.")
    asked = await session.asked()
    async with held_back(house.database_url, "assistant") as until_waiting:
        await asked.answer("All is calm.")
        await until_waiting(1)
        posting = create_task(session.post("Look north."))
        await until_waiting(2)
    posted = await posting
    await (await session.asked()).answer("I look north.")
    events = await session.events(count=2)
    await session.check_seen_once(events, posted)
    kinds = [kind(event) for event in events]
    assert kinds[kinds.index("turn_ended") :][:4] == [
        "turn_ended",
        "interrupt_posted",
        "turn_started",
        "interrupt_delivered",
    ]


async def test_posted_while_a_round_that_failed_waits_to_be_tried_again(house: House) -> None:
    session = await house.session("A model that breaks off.")
    asked = await session.asked()
    await asked.say("It is ")
    asked.close()
    await session.events("round_failed")
    posted = await session.post("Look north.")
    await (await session.asked()).answer("I look north.")
    events = await session.events()
    await session.check_seen_once(events, posted)
    attempts = [(begun.round, begun.attempt) for begun in of_kind(events, "round_started")]
    assert attempts == [(1, 1), (1, 2)]
    assert session.requests[1][: len(session.requests[0])] == session.requests[0]


async def test_posted_while_it_sleeps(house: House) -> None:
    session = await house.asleep("Sleep until somebody calls.")
    posted = await session.post("Look north.")
    await (await session.asked()).answer("I look north.")
    await session.check_seen_once(await session.events(), posted)


async def test_several_posted_while_it_sleeps_wake_it_once_and_come_in_their_order(house: House) -> None:
    session = await house.asleep("Sleep until many call.")
    texts = [f"Look at number {n}." for n in range(10)]
    posted = await session.post_together(*texts)
    await (await session.asked()).answer("I look at all of them.")
    events = await session.events()
    await session.check_seen_once(events, *posted)
    assert len(of_kind(events, "turn_started")) == 1
    assert len(of_kind(events, "round_started")) == len(session.requests) == 2
    [response] = [row.tool_response for row in rows(events) if row.HasField("tool_response")]
    assert not response.is_error


# ---- what others do meanwhile


async def test_a_pause_drops_nothing_of_what_anybody_has_posted(house: House) -> None:
    session = await house.session("Be paused.")
    asked = await session.asked()
    before = await session.post("Look north.", source="service:optimizer")
    await session.pause()
    await calls(asked, "now")
    after = await session.post("Look south.", source="user:ryan")
    states = [(await session.now(posted)).state for posted in (before, after)]
    assert states == [INTERRUPT_STATE_PENDING] * 2
    await session.resume()
    await (await session.asked()).answer("I look around.")
    await session.check_seen_once(await session.events(), before, after)


async def test_what_expires_is_told_and_never_shown(house: House) -> None:
    session = await house.session("It is morning.")
    asked = await session.asked()
    soon = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
    late = await session.post("It is morning.", expire_time=soon)
    posted = await session.post("Look north.")
    async with house.gateway.stream("WatchInterrupt", interrupt_id=late.interrupt_id) as watch:
        assert await watch.end() is None
    assert watch.responses[-1].interrupt.state == INTERRUPT_STATE_EXPIRED
    await calls(asked, "now")
    await (await session.asked()).answer("I look north.")
    events = await session.events()
    await session.check_seen_once(events, posted)
    assert of_interrupt(events, late.interrupt_id) == ["interrupt_posted", "interrupt_settled"]
    assert session.shown("It is morning.") == [[], []]
    assert (await session.now(late)).position == 0


async def test_the_end_settles_what_is_outstanding_whatever_its_state(house: House) -> None:
    session = await house.session("Come to an end.", mode="SESSION_MODE_ON_INTERRUPT")
    delivered = await session.post("Look north.")
    await session.asked()
    pending = await session.post("Look south.")
    await session.end()
    for interrupt in (delivered, pending):
        now = await session.now(interrupt)
        assert (now.state, now.settle_reason) == (INTERRUPT_STATE_CANCELLED, "the session ended")


# ---- a context window that has its limits


async def test_what_does_not_fit_waits_and_only_what_is_shown_is_seen(house: House) -> None:
    session = await house.session("Read long letters.", model="narrow", mode="SESSION_MODE_ON_INTERRUPT")
    letters = [f"Letter {n}. {LONG[:700]}" for n in range(3)]
    posted = await session.post_together(*letters)
    asked = await session.asked()
    await asked.say("The first.")
    await session.events("interrupt_seen")
    states = [(await session.now(interrupt)).state for interrupt in posted]
    assert states == [INTERRUPT_STATE_SEEN, INTERRUPT_STATE_PENDING, INTERRUPT_STATE_PENDING]
    [frame] = frames(asked.messages, "Letter 0.")
    assert "2 more wait" in frame
    await calls(asked, "now")
    await calls(await session.asked(), "now")
    await (await session.asked()).answer("I have read all of them.")
    events = await session.events()
    await session.check_seen_once(events, *posted)
    assert [sum(len(frames(messages, letter)) for letter in letters) for messages in session.requests] == [
        1,
        2,
        3,
    ]


async def test_what_was_seen_is_not_shown_again_after_a_compaction(house: House) -> None:
    session = await house.session("Work for long.", model="narrow")
    asked = await session.asked()
    posted = await session.post("Look north.")
    await calls(asked, "now")
    asked = await session.asked()
    while SUMMARY_MARK not in asked.messages[-1]["content"]:
        await asked.say(LONG)
        await calls(asked, "now")
        asked = await session.asked()
    await asked.answer("The north is clear.")
    after = await session.asked()
    await after.answer("All is calm.")
    events = await session.events()
    assert of_interrupt(events, posted.interrupt_id)[-1] == "interrupt_seen"
    [compacted] = of_kind(events, "compacted")
    assert compacted.handled_interrupts == 1
    assert frames(after.messages, "Look north.") == []
    assert "- [operator] " in after.messages[1]["content"]


# ---- a service that dies


async def test_a_post_is_safe_to_repeat_when_the_service_dies_before_or_after_its_commit(
    postgres: Postgres, client: Client, tmp_path: Path
) -> None:
    url = await new_database(postgres)
    async with chat_server() as model, connected(url) as database, AsyncExitStack() as services:
        config = spark_toml(tmp_path, model.url)
        settings = {"SPARK_DATABASE_URL": url, "SPARK_CONFIG": config, "SPARK_LEASE_SECONDS": "2"}
        service = await services.enter_async_context(running("agent_service", **settings))
        between = await services.enter_async_context(line(service.address))
        gateway = await services.enter_async_context(running("gateway", SPARK_AGENT_ADDRESS=between.address))
        house = House(client.agent(service.address), client.gateway(gateway.address), model, url)
        session = await house.session("Outlive the service.", mode="SESSION_MODE_ON_INTERRUPT")
        await session.pause()
        await house.gateway.call("ListInterrupts", session_id=session.session_id)

        between.swallows = True
        north = create_task(session.post("Look north.", "north"))
        committed = await until_committed(database, "north")
        await service.kill()
        south = create_task(session.post("Look south.", "south"))
        refused = await gather(north, south, return_exceptions=True)
        assert [getattr(one, "code", one) for one in refused] == ["UNAVAILABLE"] * 2

        service = await services.enter_async_context(running("agent_service", **settings))
        between.target, between.swallows = service.address, False
        session = replace(session, house=replace(house, agent=client.agent(service.address)))
        posted = [await session.post("Look north.", "north"), await session.post("Look south.", "south")]
        assert posted[0].interrupt_id == committed
        await session.resume()
        await (await session.asked()).answer("I look around.")
        events = await session.events()
        await session.check_seen_once(events, *posted)
    assert len(of_kind(events, "interrupt_posted")) == 2


async def until_committed(database: Connection, request_id: str) -> str:
    """The id that a post was given, once it is in the database."""
    found: list[str] = []

    async def committed() -> bool:
        rows = await database.fetch("SELECT message_id FROM messages WHERE request_id = $1", request_id)
        found.extend(str(row["message_id"]) for row in rows)
        return bool(found)

    await until(committed)
    return found[0]
