"""Replicas that run a session, worked by hand: what others are told of it is what a test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import grpc

from spark.agent.v1.agent_service_pb2 import StreamTranscriptRequest, StreamTranscriptResponse
from spark.agent.v1.agent_service_pb2_grpc import AgentServiceServicer, add_AgentServiceServicer_to_server
from spark.agent.v1.event_pb2 import DELTA_KIND_TEXT, SPEAKER_ASSISTANT, Event, TextDelta

if TYPE_CHECKING:
    Context = grpc.aio.ServicerContext[StreamTranscriptRequest, StreamTranscriptResponse]


def said(text: str, turn: int = 1, round: int = 1, kind: int = DELTA_KIND_TEXT) -> Event:
    delta = TextDelta(turn=turn, round=round, attempt=1, speaker=SPEAKER_ASSISTANT, kind=kind, text=text)
    return Event(text_delta=delta)


@dataclass
class Holder(AgentServiceServicer):
    """Counts who pulls from it, and keeps with what metadata."""

    address: str = ""
    pulling: int = 0
    pulled: list[dict[str, str]] = field(default_factory=list)
    requests: list[StreamTranscriptRequest] = field(default_factory=list)
    _told: list[asyncio.Queue[StreamTranscriptResponse]] = field(default_factory=list)

    def tell(self, last_revision: int, *events: Event) -> None:
        """To everybody who pulls now."""
        for told in self._told:
            told.put_nowait(StreamTranscriptResponse(events=events, last_revision=last_revision))

    async def StreamTranscript(  # noqa: N802
        self, request: StreamTranscriptRequest, context: Context
    ) -> AsyncIterator[StreamTranscriptResponse]:
        told = asyncio.Queue[StreamTranscriptResponse]()
        self._told.append(told)
        self.requests.append(request)
        self.pulled.append(dict(context.invocation_metadata()))
        self.pulling += 1
        try:
            while True:
                yield await told.get()
        finally:
            self.pulling -= 1
            self._told.remove(told)


@asynccontextmanager
async def holder(address: str = "127.0.0.1:0") -> AsyncIterator[Holder]:
    server, served = grpc.aio.server(), Holder()
    add_AgentServiceServicer_to_server(served, server)
    served.address = f"127.0.0.1:{server.add_insecure_port(address)}"
    await server.start()
    try:
        yield served
    finally:
        await server.stop(None)
