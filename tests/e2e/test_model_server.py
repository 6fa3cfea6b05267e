"""Turns with a real model server, llama.cpp's.

The chat server of the tests stands in front of it: it keeps each request, and passes the real reply on piece
by piece, so that a test can do something between two pieces.
"""

import sys
from asyncio.subprocess import DEVNULL, PIPE, create_subprocess_exec
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
import pytest_asyncio

from spark.agent.v1.event_pb2 import DELTA_KIND_TOOL_NAME, Event
from spark.agent.v1.interrupt_pb2 import INTERRUPT_STATE_PENDING, Interrupt
from spark.agent.v1.message_pb2 import MESSAGE_TYPE_ASSISTANT, MESSAGE_TYPE_USER
from tests.conftest import Postgres
from tests.e2e.client import Client, Door
from tests.e2e.databases import new_database
from tests.e2e.events import deltas, facts, has, of_interrupt, of_kind, rows
from tests.e2e.processes import running, spark_toml
from tests.e2e.sessions import create, deposit
from tests.servers.chat import Asked, ChatServer, chat_server

# The server in front lives as long as the module.
pytestmark = pytest.mark.asyncio(loop_scope="module")

LLAMA = Path(__file__).parent.parent / "servers" / "llama.py"
# The words that the tiny model knows.
ASKS_THE_TIME, NUDGE = "what time is it", "Here is a nudge for you."


@dataclass(frozen=True)
class House:
    """An agent service whose model is the real one, behind a server that the test works by hand."""

    agent: Door
    front: ChatServer
    llama: str

    async def lines(self, asked: Asked) -> AsyncIterator[str]:
        """The real server's reply, line by line."""
        async with (
            httpx2.AsyncClient(timeout=30) as client,
            client.stream("POST", f"{self.llama}/v1/chat/completions", json=asked.body) as response,
        ):
            async for line in response.aiter_lines():
                if line:
                    yield line

    async def pass_on(self, asked: Asked) -> None:
        async for line in self.lines(asked):
            await asked.send(line)
        asked.close()

    async def prompt(self, asked: Asked) -> str:
        """The text that the real server makes of a request."""
        async with httpx2.AsyncClient(timeout=30) as client:
            response = await client.post(f"{self.llama}/apply-template", json=asked.body)
        return response.json()["prompt"]

    async def ask_the_time(self) -> str:
        """A session in whose first round the model asks for the time: it is told to while the inner voice,
        the same model, still speaks."""
        session_id = await create(self.agent, "Keep the lamp lit.", model="tiny", tools=["now"])
        inner_voice = await self.front.asked()
        await deposit(self.agent, session_id, ASKS_THE_TIME)
        await self.pass_on(inner_voice)
        return session_id


@asynccontextmanager
async def llama_server() -> AsyncIterator[str]:
    process = await create_subprocess_exec(sys.executable, str(LLAMA), stdout=PIPE, stderr=DEVNULL)
    try:
        yield "http://" + (await process.stdout.readline()).decode().split()[1]
    finally:
        process.terminate()
        await process.communicate()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(
    postgres: Postgres, client: Client, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[House]:
    async with llama_server() as llama, chat_server() as front:
        settings = {
            "SPARK_DATABASE_URL": await new_database(postgres),
            "SPARK_CONFIG": spark_toml(tmp_path_factory.mktemp("llama"), tiny=front.url),
        }
        async with running("agent_service", **settings) as service:
            yield House(client.agent(service.address), front, llama)


@dataclass(frozen=True)
class Nudged:
    """A turn in which a nudge was posted after the name of a tool was streamed and before its arguments."""

    nudge: Interrupt
    events: list[Event]
    answering: Asked
    prompt: str


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def nudged(house: House) -> Nudged:
    session_id = await house.ask_the_time()
    async with house.agent.stream("StreamTranscript", session_id=session_id, include_deltas=True) as stream:
        calling = await house.front.asked()
        nudge = None
        async for line in house.lines(calling):
            await calling.send(line)
            if "tool_calls" in line and not nudge:
                await stream.until(shows_tool_name)
                nudge = await deposit(house.agent, session_id, NUDGE)
        calling.close()
        answering = await house.front.asked()
        await house.pass_on(answering)
        await stream.until(has("turn_ended"))
    return Nudged(nudge, facts(stream.responses), answering, await house.prompt(answering))


def shows_tool_name(responses) -> bool:
    return any(delta.text_delta.kind == DELTA_KIND_TOOL_NAME for delta in deltas(responses))


async def test_a_streamed_tool_call_is_run_and_answered(house: House) -> None:
    session_id = await house.ask_the_time()
    async with house.agent.stream("StreamTranscript", session_id=session_id) as stream:
        for _ in range(2):
            await house.pass_on(await house.front.asked())
        await stream.until(has("turn_ended"))
    said = rows(facts(stream.responses))

    voice, call, response, answer = said
    assert (voice.type, voice.text, voice.source) == (MESSAGE_TYPE_USER, "I keep working.", "inner_voice")
    assert (call.tool_call.name, call.tool_call.arguments_json) == ("now", '{"tz": "UTC"}')
    assert response.tool_response.call_id == call.tool_call.call_id
    assert response.tool_response.content.endswith("+00:00")
    assert (answer.type, answer.text) == (MESSAGE_TYPE_ASSISTANT, "The tool answered.")


async def test_a_nudge_posted_during_the_call_is_delivered_after_its_response(nudged: Nudged) -> None:
    _, call, response, answer = rows(nudged.events)
    [_, delivered] = of_kind(nudged.events, "interrupt_delivered")
    assert nudged.nudge.state == INTERRUPT_STATE_PENDING
    assert delivered.interrupt.interrupt_id == nudged.nudge.interrupt_id
    assert [call.position, response.position, delivered.interrupt.position, answer.position] == [3, 4, 5, 6]


async def test_it_is_in_the_request_after_the_response(nudged: Nudged) -> None:
    *_, call, response, nudge = nudged.answering.messages
    assert call["tool_calls"][0]["function"]["name"] == "now"
    assert (response["role"], response["tool_call_id"]) == ("tool", call["tool_calls"][0]["id"])
    assert nudge["role"] == "system"
    assert f"[operator] {NUDGE}" in nudge["content"]


async def test_it_is_in_the_prompt_that_the_model_reads(nudged: Nudged) -> None:
    _, _, response, _ = rows(nudged.events)
    told, nudge = nudged.prompt.index(response.tool_response.content), nudged.prompt.index(NUDGE)
    assert nudged.prompt.index(ASKS_THE_TIME) < told < nudge


async def test_it_is_seen_and_answered(nudged: Nudged) -> None:
    assert of_interrupt(nudged.events, nudged.nudge.interrupt_id) == [
        "interrupt_posted",
        "interrupt_delivered",
        "interrupt_seen",
    ]
    assert rows(nudged.events)[-1].text == "I have seen the nudge."
