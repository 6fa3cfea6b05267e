"""Text that models write at other replicas: pulled from the one that runs the session, best effort.

Whatever goes wrong costs nothing but that text. What is pulled is told from what is said here, and is not
handed on to replicas that pull in their turn: no text goes in circles.
"""

import asyncio
import random
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, nullcontext, suppress

import grpc

from agent_service.errors import Unavailable
from agent_service.rpc.convert.event import delta_said_elsewhere
from agent_service.rpc.shared import Shared, background
from agent_service.rpc.tail import Hearing, Tail
from agent_service.store.streams import Streams
from spark.agent.v1.agent_service_pb2 import StreamTranscriptRequest, StreamTranscriptResponse
from spark.agent.v1.agent_service_pb2_grpc import AgentServiceStub

# The metadata of a call that asks for nothing but what is said at the replica that answers it.
SAID_HERE = ("spark-said-here", "1")

FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 0.2, 15.0

_OPTIONS = (
    ("grpc.enable_http_proxy", 0),
    # A page of facts comes along with the text, whatever its size.
    ("grpc.max_receive_message_length", -1),
    # One that is gone without a word is noticed.
    ("grpc.keepalive_time_ms", 20_000),
    # It is this limit that counts, not grpc.keepalive_timeout_ms.
    ("grpc.http2.ping_timeout_ms", 10_000),
)


class Pulls:
    """At most one for each session: from the first who listens to the last, and from holder to holder."""

    def __init__(self, streams: Streams, own_address: asyncio.Future[str]) -> None:
        """Of the address of this replica itself nothing is pulled."""
        self._streams, self._own_address = streams, own_address
        self._pulls = Shared[Tail, None]()

    def into(self, tail: Tail, hearing: Hearing) -> AbstractAsyncContextManager[None]:
        """Let a tail hear what is said elsewhere, for somebody who hears that."""
        if hearing is not Hearing.EVERYWHERE:
            return nullcontext()
        return self._pulls.of(tail, lambda: background(self._follow(tail)))

    async def _follow(self, tail: Tail) -> None:
        """Pull from whoever holds the session. Its holder is looked for whenever something begins in it."""
        # Shielded, or whoever gives up waiting would cancel it for all.
        own_address, place = await asyncio.shield(self._own_address), tail.end
        address = await self._holder_address(tail)
        while True:
            here = address in ("", own_address)
            async with nullcontext() if here else background(_pull(tail, address)):
                holder = ""
                while holder in ("", address):
                    place = await _beginning(tail, place)
                    holder = await self._holder_address(tail)
            address = holder

    async def _holder_address(self, tail: Tail) -> str:
        """Empty where nobody runs the session, or nobody knows."""
        try:
            return await self._streams.holder_address(tail.session_id) or ""
        except Unavailable:
            return ""


async def _beginning(tail: Tail, place: int) -> int:
    """Wait until a turn or a round begins; gives the place from which to wait for the next."""
    while True:
        await tail.wait(place)
        events, place = tail.since(place, Hearing.NOTHING), tail.end
        if any(event.WhichOneof("event") in ("turn_started", "round_started") for event in events):
            return place


async def _pull(tail: Tail, address: str) -> None:
    pauses_seconds = _pauses_seconds()
    while True:
        request = StreamTranscriptRequest(
            session_id=str(tail.session_id), after_revision=tail.revision, include_deltas=True
        )
        with suppress(grpc.aio.AioRpcError):
            async with grpc.aio.insecure_channel(address, options=_OPTIONS) as channel:
                stub = AgentServiceStub(channel)
                async for response in stub.StreamTranscript(request, metadata=(SAID_HERE,)):
                    _hear(tail, response)
                    pauses_seconds = _pauses_seconds()
        await asyncio.sleep(next(pauses_seconds))


def _hear(tail: Tail, response: StreamTranscriptResponse) -> None:
    """The facts are read here like any others, before the text that follows them."""
    if response.last_revision > tail.revision:
        tail.watch.hint()
    for event in response.events:
        if event.HasField("text_delta") and (delta := delta_said_elsewhere(event.text_delta)):
            tail.watch.hear(delta)


def _pauses_seconds() -> Iterator[float]:
    pause_seconds = FIRST_PAUSE_SECONDS
    while True:
        yield pause_seconds * random.uniform(0.5, 1)  # noqa: S311
        pause_seconds = min(MAX_PAUSE_SECONDS, pause_seconds * 2)
