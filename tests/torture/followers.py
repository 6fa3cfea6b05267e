"""Those who watch: what they lose they open again, at another door, from where they were."""

import asyncio
from contextlib import aclosing
from random import Random

from spark.agent.v1 import agent_service_pb2 as agent
from spark.agent.v1.interrupt_pb2 import (
    INTERRUPT_STATE_CANCELLED,
    INTERRUPT_STATE_EXPIRED,
    INTERRUPT_STATE_SEEN,
    INTERRUPT_STATE_SUPERSEDED,
)
from spark.gateway.v1 import gateway_service_pb2 as gateway
from tests.torture.town import Town

_FINAL = {
    INTERRUPT_STATE_SEEN,
    INTERRUPT_STATE_CANCELLED,
    INTERRUPT_STATE_EXPIRED,
    INTERRUPT_STATE_SUPERSEDED,
}
_PAUSE_SECONDS = 0.2


async def stream_all(town: Town, chance: Random) -> None:
    """A streamer for each session, until they are cancelled or their sessions end."""
    async with asyncio.TaskGroup() as tasks:
        while session_id := await town.unwatched.get():
            tasks.create_task(_stream(f"streamer-{town.sessions[session_id]}", town, chance, session_id))


async def _stream(name: str, town: Town, chance: Random, session_id: str) -> None:
    cursor, deltas = 0, chance.random() < 0.2
    while True:
        request = agent.StreamTranscriptRequest(
            session_id=session_id, after_revision=cursor, include_deltas=deltas
        )
        try:
            async with asyncio.timeout(chance.uniform(1, 15)):
                async with aclosing(town.agent().follow(name, "StreamTranscript", request)) as responses:
                    async for response in responses:
                        cursor = max(cursor, response.last_revision)
        except TimeoutError:
            continue
        await asyncio.sleep(_PAUSE_SECONDS)


async def watch(name: str, town: Town, chance: Random) -> None:
    """One interrupt after the other, each to its end."""
    while not town.enough.is_set():
        if town.posted:
            await _watch(name, town, chance, chance.choice(town.posted))
        await asyncio.sleep(_PAUSE_SECONDS)


async def _watch(name: str, town: Town, chance: Random, interrupt_id: str) -> None:
    state = None
    while state not in _FINAL and not town.enough.is_set():
        at_gateway = chance.random() < 0.5
        door, words = (town.gateway(), gateway) if at_gateway else (town.agent(), agent)
        request = words.WatchInterruptRequest(interrupt_id=interrupt_id)
        try:
            async with asyncio.timeout(chance.uniform(1, 10)):
                async with aclosing(door.follow(name, "WatchInterrupt", request)) as responses:
                    async for response in responses:
                        state = response.interrupt.state
        except TimeoutError:
            continue
        await asyncio.sleep(_PAUSE_SECONDS)
