"""Interrupts and chat templates, with a real server that makes the prompts: llama.cpp's.

The chat server of the tests stands in front of it and answers for the model, as it is told; whatever else is
asked, the real one answers. So its templates decide, and not what a tiny model makes of them.
"""

import asyncio
import json
import sys
from asyncio.subprocess import DEVNULL, PIPE, create_subprocess_exec
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import pytest
import pytest_asyncio

from spark.agent.v1.event_pb2 import ROUND_FAILURE_MODEL_REFUSED, Event
from spark.agent.v1.model_pb2 import EVIDENCE_RENDERED, Placement
from tests.conftest import Postgres
from tests.e2e.client import Client, Door
from tests.e2e.databases import connected, new_database
from tests.e2e.events import facts, has, of_interrupt, of_kind
from tests.e2e.processes import running
from tests.e2e.sessions import create, deposit
from tests.servers.chat import Asked, ChatServer
from tests.servers.chat_template import OWN

pytestmark = pytest.mark.asyncio(loop_scope="module")

LLAMA = Path(__file__).parent.parent / "servers" / "llama.py"
NUDGE, NOON = "Look north.", "+00:00"

# Of a model without a system role llama.cpp itself lets the user say the system prompt.
PLACES = {
    "takes_system": "SYSTEM",
    "tells_the_time": "SYSTEM",
    "refuses_late_system": "USER",
    "drops_late_system": "USER",
    "moves_system_first": "USER",
    "doubles_late_system": "USER",
    "last_system_wins": "USER",
    "shows_system_bare": "USER",
    "has_no_system_role": "USER",
    "forgets_reasoning": "TOOL",
    "wants_the_assistant_after_tools": "TOOL",
    "alternates": "TEXT",
    "ignores_tools": "TEXT",
}


def _never(body: dict) -> bool:
    return False


@dataclass
class Front(ChatServer):
    """Hands chat completions to the test, and everything else to the server behind. It refuses what it is
    told to, and takes by itself what is only asked to see whether it is taken."""

    behind: str = ""
    refuses: Callable[[dict], bool] = _never
    refused: list[dict] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        fields = dict(line.lower().split(": ", 1) for line in head.decode().strip().split("\r\n")[1:])
        asked = head + await reader.readexactly(int(fields.get("content-length", 0)))
        if b"/chat/completions " not in head:
            await self._pass_on(asked, writer)
            return
        body = json.loads(asked[len(head) :])
        if self.refuses(body):
            self.refused.append(body)
            await _write(writer, "400 Bad Request", {"error": {"message": "No late system message."}})
        else:
            again = asyncio.StreamReader()
            again.feed_data(asked)
            await super().serve(again, writer)
            if body.get("max_tokens"):
                await (await self.asked('"max_tokens": 1')).answer("Y")

    async def _pass_on(self, asked: bytes, writer: asyncio.StreamWriter) -> None:
        host, _, port = self.behind.rpartition(":")
        answers, asks = await asyncio.open_connection(host, int(port))
        asks.write(asked)
        writer.write(await answers.read())
        asks.close()
        writer.close()

    async def prompt(self, asked: Asked) -> str:
        """What the real server makes of a request."""
        async with httpx2.AsyncClient(timeout=30) as client:
            response = await client.post(f"http://{self.behind}/apply-template", json=asked.body)
        return response.json()["prompt"]


async def _write(writer: asyncio.StreamWriter, status: str, body: dict) -> None:
    text = json.dumps(body).encode()
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\n"
    writer.write(f"{head}content-length: {len(text)}\r\n\r\n".encode() + text)
    await writer.drain()
    writer.close()


@asynccontextmanager
async def front_of(template: Path) -> AsyncIterator[Front]:
    command = [sys.executable, str(LLAMA), "--template", str(template)]
    process = await create_subprocess_exec(*command, stdout=PIPE, stderr=DEVNULL)
    try:
        assert process.stdout
        front = Front(behind=(await process.stdout.readline()).decode().split()[1])
        async with await asyncio.start_server(front.serve, "127.0.0.1", 0) as server:
            front.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
            yield front
            for asked in front.received:
                asked.close()
    finally:
        process.terminate()
        await process.communicate()


@dataclass(frozen=True)
class House:
    agent: Door
    fronts: dict[str, Front]
    database_url: str

    async def session(self, model: str) -> str:
        return await create(
            self.agent, "Keep the lamp lit.", model=model, tools=["now"], disable_inner_voice=True
        )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(
    postgres: Postgres, client: Client, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[House]:
    async with AsyncExitStack() as stack:
        fronts = {name: await stack.enter_async_context(front_of(OWN / f"{name}.jinja")) for name in PLACES}
        config = tmp_path_factory.mktemp("templates") / "spark.toml"
        config.write_text(
            "\n".join(
                f'[models.{name}]\nbase_url = "{front.url}"\nmodel = "tiny"\n'
                for name, front in fronts.items()
            )
        )
        url = await new_database(postgres)
        service = await stack.enter_async_context(
            running("agent_service", SPARK_DATABASE_URL=url, SPARK_CONFIG=str(config))
        )
        yield House(client.agent(service.address), fronts, url)


async def nudged(house: House, model: str) -> tuple[list[Event], Asked, str]:
    """A turn with a call, during which a nudge comes: its events, the request after that, and the nudge."""
    session_id = await house.session(model)
    front = house.fronts[model]
    async with house.agent.stream("StreamTranscript", session_id=session_id) as stream:
        calling = await front.asked()
        nudge = await deposit(house.agent, session_id, NUDGE)
        if calling.body.get("tools"):
            await calling.call("call00001", "now", '{"tz": "UTC"}')
            answering = await front.asked()
        else:
            await calling.answer("I look south.")
            answering = await front.asked()
        await answering.answer("I look north.")
        await stream.until(lambda said: has("interrupt_seen")(said) and has("turn_ended")(said))
    return facts(stream.responses), answering, nudge.interrupt_id


@pytest.mark.parametrize("name", PLACES)
async def test_a_check_finds_the_place_by_the_servers_own_prompts(house: House, name: str) -> None:
    check = (await house.agent.call("CheckModel", model=name)).model_check
    assert (Placement.Name(check.placement), check.evidence) == (
        f"PLACEMENT_{PLACES[name]}",
        EVIDENCE_RENDERED,
    )


@pytest.mark.parametrize("name", PLACES)
async def test_a_nudge_is_in_its_place_in_the_prompt_and_is_seen(house: House, name: str) -> None:
    events, answering, nudge = await nudged(house, name)
    assert of_interrupt(events, nudge) == ["interrupt_posted", "interrupt_delivered", "interrupt_seen"]
    assert of_kind(events, "round_failed") == []
    prompt = await house.fronts[name].prompt(answering)
    assert prompt.count(NUDGE) == 1
    assert prompt.index("Keep the lamp lit.") < prompt.index("Continue.") < prompt.index(NUDGE)
    if PLACES[name] != "TEXT":
        assert prompt.rindex(NOON) < prompt.index(NUDGE)


async def test_a_server_that_refuses_at_work_what_it_shows_gets_it_in_the_next_place_down(
    house: House,
) -> None:
    name = "takes_system"
    front = house.fronts[name]
    front.refuses = lambda body: any(message["role"] == "system" for message in body["messages"][1:])
    events, answering, nudge = await nudged(house, name)
    front.refuses = _never
    (failed,) = of_kind(events, "round_failed")
    assert failed.reason == ROUND_FAILURE_MODEL_REFUSED
    assert failed.detail.startswith("interrupts are refused as system, and are placed as user from now on: ")
    assert of_interrupt(events, nudge) == ["interrupt_posted", "interrupt_delivered", "interrupt_seen"]
    *_, last = answering.messages
    assert last["role"] == "user"
    assert NUDGE in last["content"]
    async with connected(house.database_url) as connection:
        kept = await connection.fetchval(
            "SELECT evidence FROM model_profiles WHERE server = $1 AND profile->>'placement' = 'user'",
            front.url,
        )
    assert kept == "stepped_down"
