"""Those who watch: what they lose they open again, at another door, from where they were."""

import asyncio
from random import Random

from spark.agent.v1 import agent_service_pb2 as agent
from spark.gateway.v1 import gateway_service_pb2 as gateway
from tests.torture.town import Town

_PAUSE_SECONDS = 0.2


async def stream_all(town: Town, chance: Random) -> None:
    """A streamer for each session, until they are cancelled or their sessions end."""
    async with asyncio.TaskGroup() as tasks:
        while True:
            session_id = await town.unwatched.get()
            tasks.create_task(_stream(f"streamer-{town.sessions[session_id]}", town, chance, session_id))


async def _stream(name: str, town: Town, chance: Random, session_id: str) -> None:
    cursor, deltas, code = 0, chance.random() < 0.2, ""

    def hear(response: agent.StreamTranscriptResponse) -> None:
        nonlocal cursor
        if response.last_revision > cursor:
            cursor, town.stirring = response.last_revision, session_id

    while code != "OK":
        request = agent.StreamTranscriptRequest(
            session_id=session_id, after_revision=cursor, include_deltas=deltas
        )
        door, seconds = chance.choice(town.doors.agents), chance.uniform(1, 15)
        code = await door.follow(name, "StreamTranscript", request, seconds, hear)
        await asyncio.sleep(_PAUSE_SECONDS)


async def watch(name: str, town: Town, chance: Random) -> None:
    """One interrupt after the other, each to its end."""
    while not town.enough.is_set():
        if town.posted:
            await _watch(name, town, chance, chance.choice(town.posted))
        await asyncio.sleep(_PAUSE_SECONDS)


async def _watch(name: str, town: Town, chance: Random, interrupt_id: str) -> None:
    code = ""
    while code != "OK" and not town.enough.is_set():
        doors, words = chance.choice(((town.doors.agents, agent), (town.doors.gateways, gateway)))
        door, request = chance.choice(doors), words.WatchInterruptRequest(interrupt_id=interrupt_id)
        code = await door.follow(name, "WatchInterrupt", request, chance.uniform(1, 10), lambda _: None)
        await asyncio.sleep(_PAUSE_SECONDS)
