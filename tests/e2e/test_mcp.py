"""An agent whose tools are those of MCP servers, which the service runs."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from spark.agent.v1.event_pb2 import DELTA_KIND_TOOL_PROGRESS
from spark.agent.v1.message_pb2 import MESSAGE_TYPE_ASSISTANT
from spark.agent.v1.tool_pb2 import (
    TOOL_SET_STATE_DOWN,
    TOOL_SET_STATE_STARTING,
    TOOL_SET_STATE_UP,
    ToolSet,
)
from tests.conftest import Postgres
from tests.e2e.client import Client, Door
from tests.e2e.databases import new_database
from tests.e2e.events import Responses, deltas, facts, has, rows
from tests.e2e.processes import Service, running, spark_toml
from tests.e2e.sessions import create, nudge
from tests.servers.chat import Asked, ChatServer, chat_server
from tests.servers.pages import page_server
from tests.support import until

# The house lives as long as the module.
pytestmark = pytest.mark.asyncio(loop_scope="module")

SERVERS = Path(__file__).parent.parent / "tools" / "mcp_servers"
COMMANDS = {
    "web": [sys.executable, "-m", "mcp_server_fetch", "--allow-private-ips"],
    "time": [sys.executable, "-m", "mcp_server_time"],
    "keeper": [sys.executable, str(SERVERS / "keeper.py")],
    "wild": [sys.executable, str(SERVERS / "wild.py")],
    "gone": ["/nowhere/at/all"],
}


@dataclass(frozen=True)
class House:
    agent: Door
    chat: ChatServer
    service: Service

    async def session(self, *tools: str) -> str:
        """A session with these tools, whose model the test plays, without an inner voice."""
        return await create(
            self.agent, "Keep the watch.", model="tiny", tools=tools, disable_inner_voice=True
        )

    async def interrupt(self, session_id: str) -> None:
        """With immediate delivery."""
        interrupt = nudge(session_id, "Leave that.") | {"delivery": "DELIVERY_IMMEDIATE"}
        deposits = [{"interrupt": interrupt, "request_id": "r1"}]
        await self.agent.call("DepositInterrupts", deposits=deposits)

    async def tool_sets(self) -> Sequence[ToolSet]:
        return (await self.agent.call("ListTools")).tool_sets

    async def set_named(self, name: str) -> ToolSet:
        return next(one for one in await self.tool_sets() if one.name == name)


def offered(asked: Asked) -> list[str]:
    return [tool["function"]["name"] for tool in asked.body.get("tools", ())]


def write_toml(directory: Path, chat: ChatServer, *names: str) -> str:
    path = spark_toml(directory, tiny=chat.url)
    tables = [f"[tools.{name}]\ncommand = {json.dumps(COMMANDS[name])}\n" for name in names]
    with open(path, "a") as file:
        file.write("\n".join(tables))
    return path


@asynccontextmanager
async def open_house(
    postgres: Postgres, client: Client, directory: Path, *names: str
) -> AsyncIterator[House]:
    """A service with these sets, as soon as the server of each has been up or down."""
    async with chat_server() as chat:
        settings = {
            "SPARK_DATABASE_URL": await new_database(postgres),
            "SPARK_CONFIG": write_toml(directory, chat, *names),
        }
        async with running("agent_service", **settings) as service:
            house = House(client.agent(service.address), chat, service)

            async def settled() -> bool:
                states = {one.state for one in await house.tool_sets()}
                return TOOL_SET_STATE_STARTING not in states

            await until(settled)
            yield house


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(
    postgres: Postgres, client: Client, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[House]:
    async with open_house(postgres, client, tmp_path_factory.mktemp("mcp"), *COMMANDS) as opened:
        yield opened


async def test_an_agent_reads_a_page_and_answers_from_it(house: House) -> None:
    async with page_server({"/tides": "<h1>Tides</h1><p>High water at half past nine.</p>"}) as url:
        session_id = await house.session("web")
        async with house.agent.stream("StreamTranscript", session_id=session_id) as stream:
            asked = await house.chat.asked()
            assert offered(asked) == ["web_fetch"]
            await asked.call("c1", "web_fetch", json.dumps({"url": f"{url}/tides"}))
            answering = await house.chat.asked()
            *_, page = answering.messages
            assert "High water at half past nine." in page["content"]
            await answering.answer("High water is at half past nine.")
            await stream.until(has("turn_ended"))
    _, call, response, answer = rows(facts(stream.responses))
    assert call.tool_call.name == "web_fetch"
    assert "High water at half past nine." in response.tool_response.content
    assert not response.tool_response.is_error
    assert (answer.type, answer.text) == (MESSAGE_TYPE_ASSISTANT, "High water is at half past nine.")


async def test_the_tools_are_listed_with_how_their_servers_stand(house: House) -> None:
    assert [one.name for one in await house.tool_sets()] == ["built-in", *COMMANDS]
    web, time, gone = [await house.set_named(name) for name in ("web", "time", "gone")]
    assert (web.state, [tool.name for tool in web.tools]) == (TOOL_SET_STATE_UP, ["web_fetch"])
    assert [tool.name for tool in time.tools] == ["time_convert_time", "time_get_current_time"]
    assert (gone.state, gone.detail) == (
        TOOL_SET_STATE_DOWN,
        "cannot be started: No such file or directory",
    )


async def test_nothing_is_offered_but_what_a_session_names(house: House) -> None:
    for tools, expected in [
        ((), ["now", "wait", "note"]),
        (("time", "now"), ["now", "time_convert_time", "time_get_current_time"]),
        (("now", "gone"), ["now"]),
    ]:
        await house.session(*tools)
        asked = await house.chat.asked()
        assert offered(asked) == expected
        await asked.answer("Good.")


async def test_a_tool_that_nobody_configured_is_refused(house: House) -> None:
    session = {"goal": "Keep the watch.", "config": {"tools": ["web_fetch"]}}
    refused = await house.agent.refusal("CreateSession", session=session)
    assert (refused.code, refused.reason) == ("FAILED_PRECONDITION", "CONFIG_NOT_FOUND")
    assert refused.message.endswith("known: now, wait, note, tell, web, time, keeper, wild, gone")


async def test_progress_is_streamed_while_a_tool_runs(house: House, tmp_path: Path) -> None:
    session_id, arguments = await house.session("keeper"), json.dumps({"path": str(tmp_path / "stopped")})
    async with house.agent.stream("StreamTranscript", session_id=session_id, include_deltas=True) as stream:
        # What tools say on their way is for those who watch by then.
        await stream.until(has("round_started"))
        await (await house.chat.asked()).call("c1", "keeper_wait_for_ever", arguments)
        await stream.until(progress)
        await house.interrupt(session_id)
    assert progress(stream.responses) == [(1, 1, 0, "1 of 2: waiting")]
    await (await house.chat.asked()).answer("I leave it.")


def progress(responses: Responses) -> list[tuple[int, int, int, str]]:
    said = [event.text_delta for event in deltas(responses)]
    told = [delta for delta in said if delta.kind == DELTA_KIND_TOOL_PROGRESS]
    return [(delta.turn, delta.round, delta.offset, delta.text) for delta in told]


async def test_an_immediate_interrupt_cancels_a_call_at_the_server(house: House, tmp_path: Path) -> None:
    session_id, note = await house.session("wild"), tmp_path / "note"
    await (await house.chat.asked()).call("c1", "wild_hang", json.dumps({"path": str(note)}))

    async def waits() -> bool:
        return note.exists() and note.read_text() == "waits"

    async def was_told() -> bool:
        return note.read_text() == "was told"

    await until(waits)
    await house.interrupt(session_id)
    asked = await house.chat.asked()
    assert [message["role"] for message in asked.messages[-2:]] == ["tool", "system"]
    assert asked.messages[-2]["content"] == "cancelled: interrupted"
    await asked.answer("I leave it.")
    await until(was_told)


async def test_a_server_that_dies_costs_one_error(house: House) -> None:
    await house.session("wild")
    await (await house.chat.asked()).call("c1", "wild_die")
    asked = await house.chat.asked()
    assert asked.messages[-1]["content"].startswith("The tool server wild was lost while the tool ran.")
    await asked.answer("Well.")

    async def up() -> bool:
        return (await house.set_named("wild")).state == TOOL_SET_STATE_UP

    await until(up)


async def test_a_server_that_floods_costs_its_own_session_one_error_and_no_other_anything(
    house: House,
) -> None:
    await house.session("wild")
    await (await house.chat.asked()).call("c1", "wild_flood")
    await house.session("keeper")
    await (await house.chat.asked("keeper_echo")).call("c1", "keeper_echo", '{"text": "Still there?"}')
    asked = await house.chat.asked("keeper_echo")
    assert asked.messages[-1]["content"] == "Still there?"
    await asked.answer("Good.")
    asked = await house.chat.asked()
    assert asked.messages[-1]["content"].startswith("The tool server wild was lost while the tool ran.")
    await asked.answer("Well.")


@pytest.mark.parametrize("end", ["stop", "kill"])
async def test_no_server_outlives_the_service(
    postgres: Postgres, client: Client, tmp_path: Path, end: str
) -> None:
    fifo = tmp_path / "held"
    os.mkfifo(fifo)
    left = asyncio.create_task(asyncio.to_thread(fifo.read_text))
    async with open_house(postgres, client, tmp_path, "wild") as house:
        session_id = await house.session("wild")
        async with house.agent.stream("StreamTranscript", session_id=session_id) as stream:
            await (await house.chat.asked()).call("c1", "wild_clutch", json.dumps({"path": str(fifo)}))
            asked = await house.chat.asked()
            assert asked.messages[-1]["content"] == "held"
            await asked.answer("I hold it.")
            await stream.until(has("turn_ended"))
        assert not left.done()
        if end == "kill":
            await house.service.kill()
        else:
            assert await house.service.stop() == 0
        await left
