"""Long sessions in short contexts: older rows give way to summaries, and nobody outside loses anything."""

import json
import sys
from asyncio.subprocess import DEVNULL, PIPE, create_subprocess_exec
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agent_service.model import SUMMARY_MARK
from spark.agent.v1.event_pb2 import ROUND_FAILURE_CONTEXT_OVERFLOW, Event
from spark.agent.v1.interrupt_pb2 import INTERRUPT_STATE_PENDING, INTERRUPT_STATE_SEEN
from spark.agent.v1.message_pb2 import MESSAGE_TYPE_SUMMARY, Message
from spark.agent.v1.session_pb2 import SESSION_STATE_FAILED, Session
from tests.conftest import Postgres
from tests.e2e.client import Client, Door
from tests.e2e.databases import new_database
from tests.e2e.events import facts, has, kind, of_interrupt, of_kind, rows
from tests.e2e.processes import running
from tests.e2e.sessions import create, deposit, nudge
from tests.servers.chat import chat_server

LLAMA = Path(__file__).parent.parent / "servers" / "llama.py"
# What the real server has room for, of which the system prompt takes a fifth.
CONTEXT = 2048
NUDGE = "Here is a nudge for you. "
# Of such text a token has hardly more than a byte.
FIGURES = " ".join(str(n * n) for n in range(1500))[:8000]
FLOOD = 4
LONG = "The watch is long, and the sea is calm. " * 50


@asynccontextmanager
async def llama_server(context: int = CONTEXT) -> AsyncIterator[str]:
    command = [sys.executable, str(LLAMA), "--context", str(context)]
    process = await create_subprocess_exec(*command, stdout=PIPE, stderr=DEVNULL)
    try:
        yield "http://" + (await process.stdout.readline()).decode().split()[1] + "/v1"
    finally:
        process.terminate()
        await process.communicate()


@asynccontextmanager
async def agent_of(
    postgres: Postgres, client: Client, directory: Path, base_url: str, window: int = 0
) -> AsyncIterator[Door]:
    """An agent service with the model `tiny`, and a window of the model's as the configuration has it."""
    told = f"context_window = {window}\n" if window else ""
    config = directory / "spark.toml"
    config.write_text(f'[models.tiny]\nbase_url = "{base_url}"\nmodel = "tiny"\nplacement = "system"\n{told}')
    url = await new_database(postgres)
    async with running("agent_service", SPARK_DATABASE_URL=url, SPARK_CONFIG=str(config)) as service:
        yield client.agent(service.address)


async def list_messages(agent: Door, session_id: str) -> list[Message]:
    """All of them, page by page."""
    found, token = [], ""
    while True:
        page = await agent.call("ListMessages", session_id=session_id, page_size=7, page_token=token)
        found += page.messages
        token = page.next_page_token
        if not token:
            return found


async def work_through(agent: Door, texts: list[str], **config: object) -> list[Event]:
    """A session that does a turn for each of the nudges, and what is told of it."""
    config = {"model": "tiny", "tools": ["now"], "mode": "SESSION_MODE_ON_INTERRUPT"} | config
    session_id = await create(agent, "Keep the lamp lit.", **config)
    nudges = []
    async with agent.stream("StreamTranscript", session_id=session_id) as stream:
        for number, text in enumerate(texts, 1):
            deposits = [{"interrupt": nudge(session_id, text), "request_id": f"{number}"}]
            [result] = (await agent.call("DepositInterrupts", deposits=deposits)).results
            nudges.append(result.interrupt.interrupt_id)
            await stream.until(has("turn_ended", number))
    events = facts(stream.responses)
    each = ["interrupt_posted", "interrupt_delivered", "interrupt_seen"]
    assert [of_interrupt(events, interrupt_id) for interrupt_id in nudges] == [each] * len(texts)
    check_transcript(await list_messages(agent, session_id), events, len(nudges))
    return events


def check_transcript(messages: list[Message], events: list[Event], nudges: int) -> None:
    """Every row is there, covered or not, and every summary was told when it was made."""
    assert [message.position for message in messages] == list(range(1, len(messages) + 1))
    summaries = [message for message in messages if message.type == MESSAGE_TYPE_SUMMARY]
    told = of_kind(events, "compacted")
    assert [one.summary for one in told] == summaries
    covered = [summary.covers_through_position for summary in summaries]
    assert covered == sorted(set(covered))
    assert all(summary.covers_through_position < summary.position for summary in summaries)
    assert len(messages) == len(rows(events)) + nudges + len(summaries)
    # An interrupt that a summary covers was seen before, and is counted as handled.
    assert told[-1].handled_interrupts <= nudges
    assert told[-1].handled_interrupts >= told[0].handled_interrupts


async def test_a_session_works_on_through_several_compactions(
    postgres: Postgres, client: Client, tmp_path: Path
) -> None:
    async with llama_server() as url, agent_of(postgres, client, tmp_path, url) as agent:
        events = await work_through(agent, [NUDGE + LONG[:500]] * 12)
    assert len(of_kind(events, "compacted")) >= 3
    assert of_kind(events, "round_failed") == []


async def test_what_the_server_refuses_as_too_long_is_compacted_and_asked_again(
    postgres: Postgres, client: Client, tmp_path: Path
) -> None:
    """The configuration promises more than the server has."""
    async with llama_server() as url, agent_of(postgres, client, tmp_path, url, 100 * CONTEXT) as agent:
        events = await work_through(agent, [NUDGE + LONG] * 5, disable_inner_voice=True)
    failed = of_kind(events, "round_failed")
    assert {one.reason for one in failed} == {ROUND_FAILURE_CONTEXT_OVERFLOW}
    assert len(of_kind(events, "compacted")) == len(failed) >= 3


@pytest.mark.parametrize(
    ("context", "mode"),
    [
        (2048, "SESSION_MODE_AUTONOMOUS"),
        (2048, "SESSION_MODE_ON_INTERRUPT"),
        (4096, "SESSION_MODE_AUTONOMOUS"),
    ],
)
async def test_long_interrupts_come_through_a_narrow_window_whose_tokens_are_short(
    postgres: Postgres, client: Client, tmp_path: Path, context: int, mode: str
) -> None:
    async with llama_server(context) as url, agent_of(postgres, client, tmp_path, url) as agent:
        events, _ = await flooded(agent, mode)
    assert len(of_kind(events, "interrupt_delivered")) == len(of_kind(events, "interrupt_seen")) == FLOOD


async def test_a_session_that_its_window_has_no_room_for_has_failed_and_says_why(
    postgres: Postgres, client: Client, tmp_path: Path
) -> None:
    async with llama_server(1024) as url, agent_of(postgres, client, tmp_path, url) as agent:
        events, session = await flooded(agent, "SESSION_MODE_ON_INTERRUPT")
    assert session.state == SESSION_STATE_FAILED
    assert session.state_reason.startswith("nothing is left that could be left out")
    assert "the available context size (1024 tokens)" in session.state_reason
    assert {one.reason for one in of_kind(events, "round_failed")} == {ROUND_FAILURE_CONTEXT_OVERFLOW}


async def flooded(agent: Door, mode: str) -> tuple[list[Event], Session]:
    """A session to which many long interrupts are posted at once, when it has seen them all or has failed."""
    session_id = await create(agent, "Keep the lamp lit.", model="tiny", mode=mode)
    deposits = [{"interrupt": nudge(session_id, NUDGE + FIGURES), "request_id": f"{n}"} for n in range(FLOOD)]
    await agent.call("DepositInterrupts", deposits=deposits)
    async with agent.stream("StreamTranscript", session_id=session_id) as stream:
        await stream.until(has_seen_all_or_failed)
    session = (await agent.call("GetSession", session_id=session_id)).session
    return facts(stream.responses), session


def has_seen_all_or_failed(responses) -> bool:
    events = facts(responses)
    states = [changed.session.state for changed in of_kind(events, "session_changed")]
    return SESSION_STATE_FAILED in states or len(of_kind(events, "interrupt_seen")) == FLOOD


async def test_a_nudge_posted_during_a_compaction_is_delivered_after_it_and_seen(
    postgres: Postgres, client: Client, tmp_path: Path
) -> None:
    async with chat_server() as chat, agent_of(postgres, client, tmp_path, chat.url, CONTEXT) as agent:
        session_id = await create(
            agent, "Keep the lamp lit.", model="tiny", tools=["now"], disable_inner_voice=True
        )
        async with agent.stream("StreamTranscript", session_id=session_id) as stream:
            asked = await chat.asked()
            while SUMMARY_MARK not in json.dumps(asked.messages):
                await asked.say(LONG)
                await asked.call("a", "now")
                asked = await chat.asked()
            posted = await deposit(agent, session_id, "Look north.")
            await asked.say("All is ")
            pending = (await agent.call("GetInterrupt", interrupt_id=posted.interrupt_id)).interrupt
            await asked.answer("calm.")
            after = await chat.asked()
            await after.answer("I look north.")
            await stream.until(has("turn_ended"))
        seen = (await agent.call("GetInterrupt", interrupt_id=posted.interrupt_id)).interrupt
    assert (pending.state, seen.state) == (INTERRUPT_STATE_PENDING, INTERRUPT_STATE_SEEN)
    kinds = [kind(event) for event in facts(stream.responses)]
    order = ["interrupt_posted", "compacted", "interrupt_delivered", "interrupt_seen", "turn_ended"]
    assert [kind for kind in kinds if kind in order] == order
    assert "Look north." not in json.dumps(asked.messages)
    assert "All is calm." in after.messages[1]["content"]
    assert "[operator] Look north." in after.messages[-1]["content"]
    assert json.dumps(after.messages).count(LONG) == 1
