"""What is cancelled costs nothing more: a real model server stops writing for nobody.

The server writes on and on until its client goes away, and tells which requests it is at.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx2
import pytest
import pytest_asyncio

from spark.agent.v1.agent_service_pb2 import StreamTranscriptResponse
from spark.agent.v1.event_pb2 import ROUND_FAILURE_INTERRUPTED, SPEAKER_ASSISTANT, SPEAKER_INNER_VOICE
from tests.conftest import Postgres
from tests.e2e.client import Client, Door, Stream
from tests.e2e.databases import new_database
from tests.e2e.events import deltas, facts, of_interrupt, of_kind
from tests.e2e.processes import running, spark_toml
from tests.e2e.sessions import create, nudge
from tests.model.conftest import llama_server
from tests.support import until

# The services live as long as the module.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass(frozen=True)
class House:
    agent: Door
    gateway: Door
    llama: str

    async def requests(self) -> set[int]:
        """Those that the model server is at."""
        async with httpx2.AsyncClient() as client:
            slots = (await client.get(f"http://{self.llama}/slots")).json()
        return {slot["id_task"] for slot in slots if slot["is_processing"]}

    async def until_requests(self, condition: Callable[[set[int]], bool]) -> None:
        async def so() -> bool:
            return condition(await self.requests())

        await until(so)

    @asynccontextmanager
    async def session(self, **config: object) -> AsyncIterator[tuple[str, Stream]]:
        """A session and a stream of it, which is ended afterwards."""
        session_id = await create(self.agent, "Keep the lamp lit.", model="tiny", **config)
        async with self.agent.stream(
            "StreamTranscript", session_id=session_id, include_deltas=True
        ) as stream:
            yield session_id, stream
            await self.agent.call("EndSession", session_id=session_id)
        await self.until_requests(lambda left: not left)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(
    postgres: Postgres, client: Client, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[House]:
    with llama_server("--endless") as llama:
        settings = {
            "SPARK_DATABASE_URL": await new_database(postgres),
            "SPARK_CONFIG": spark_toml(tmp_path_factory.mktemp("cancellation"), tiny=f"http://{llama}/v1"),
        }
        async with (
            running("agent_service", **settings) as agent,
            running("gateway", SPARK_AGENT_ADDRESS=agent.address) as gateway,
        ):
            yield House(client.agent(agent.address), client.gateway(gateway.address), llama)


def speaks(speaker: int, attempt: int) -> Callable[[list[StreamTranscriptResponse]], bool]:
    """The condition that words of an attempt have come."""

    def spoken(responses: list[StreamTranscriptResponse]) -> bool:
        said = [event.text_delta for event in deltas(responses)]
        return any((delta.speaker, delta.attempt) == (speaker, attempt) for delta in said)

    return spoken


@pytest.mark.parametrize(
    ("speaker", "disable_inner_voice"), [(SPEAKER_ASSISTANT, True), (SPEAKER_INNER_VOICE, False)]
)
async def test_an_immediate_nudge_ends_the_request_at_the_server_and_the_agent_goes_on(
    house: House, speaker: int, disable_inner_voice: bool
) -> None:
    async with house.session(disable_inner_voice=disable_inner_voice) as (session_id, stream):
        await stream.until(speaks(speaker, attempt=1))
        [cancelled] = await house.requests()
        immediate = nudge(session_id, "Look north.") | {"delivery": "DELIVERY_IMMEDIATE"}
        posted = (await house.gateway.call("PostInterrupt", interrupt=immediate)).interrupt
        await stream.until(speaks(speaker, attempt=2))
        await house.until_requests(lambda left: len(left) == 1 and cancelled not in left)
        events = facts(stream.responses)
    assert [failed.reason for failed in of_kind(events, "round_failed")] == [ROUND_FAILURE_INTERRUPTED]
    assert of_interrupt(events, posted.interrupt_id)[:2] == ["interrupt_posted", "interrupt_delivered"]


async def test_the_end_of_the_session_ends_the_request_at_the_server(house: House) -> None:
    async with house.session(disable_inner_voice=True) as (session_id, stream):
        await stream.until(speaks(SPEAKER_ASSISTANT, attempt=1))
        assert len(await house.requests()) == 1
        await house.agent.call("EndSession", session_id=session_id)
        await house.until_requests(lambda left: not left)
        assert await stream.end() is None
    assert of_kind(facts(stream.responses), "round_failed") == []
