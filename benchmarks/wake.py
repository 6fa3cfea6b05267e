"""`wake`: from a post to a sleeping session until a watcher sees it delivered.

That takes three commits in a row: the deposit, the claim, and the start of a turn with its first delivery.
The baseline makes three bare ones behind its two hops and tells its watcher after the last.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

import grpc

from benchmarks.chains import Chains, nudge
from benchmarks.echo import COMMIT, FOLLOW
from benchmarks.figures import Figure, Sample, Size, compare
from benchmarks.post import bare_post
from spark.agent.v1.agent_service_pb2 import StreamTranscriptRequest, StreamTranscriptResponse
from spark.agent.v1.agent_service_pb2_grpc import AgentServiceStub
from spark.gateway.v1.gateway_service_pb2_grpc import GatewayServiceStub

PATIENCE_SECONDS = 60


async def figures(chains: Chains, size: Size) -> list[Figure]:
    session_ids = await chains.new_sessions(size.samples)
    follow: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = chains.last_hop.unary_stream(FOLLOW)
    told = follow(b"")
    await told.read()
    blocks = await compare(size, _wake(chains, iter(session_ids)), _bare_wake(chains, told, session_ids[0]))
    told.cancel()
    return [Figure("wake: post to delivered", "two hops of bare gRPC and three bare commits", None, blocks)]


def _wake(chains: Chains, sleeping: Iterator[str]) -> Sample:
    """Each sample wakes another session and lets its turn come to an end."""
    agent, gateway = AgentServiceStub(chains.agent), GatewayServiceStub(chains.gateway)

    async def sample() -> float:
        request = nudge(next(sleeping))
        opening = StreamTranscriptRequest(session_id=request.interrupt.session_id)
        stream = agent.StreamTranscript(opening, timeout=PATIENCE_SECONDS)
        watcher = _Watcher(aiter(stream))
        await watcher.until("synced")
        began = time.perf_counter()
        posted = asyncio.ensure_future(gateway.PostInterrupt(request))
        await watcher.until("interrupt_delivered")
        seconds = time.perf_counter() - began
        await posted
        await watcher.until("turn_ended")
        stream.cancel()
        return seconds

    return sample


class _Watcher:
    """Remembers what a stream has told so far."""

    def __init__(self, stream: AsyncIterator[StreamTranscriptResponse]) -> None:
        self._stream, self._told = stream, set[str | None]()

    async def until(self, what: str) -> None:
        while what not in self._told:
            response = await anext(self._stream)
            self._told.update(event.WhichOneof("event") for event in response.events)
            self._told.add("synced" if response.synced else None)


def _bare_wake(chains: Chains, told: grpc.aio.UnaryStreamCall[bytes, bytes], session_id: str) -> Sample:
    post = bare_post(chains, COMMIT)

    async def sample() -> float:
        request = nudge(session_id)
        began = time.perf_counter()
        posted = asyncio.ensure_future(post(request))
        await told.read()
        seconds = time.perf_counter() - began
        await posted
        return seconds

    return sample
