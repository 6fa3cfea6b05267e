"""`wake`: from a post to a sleeping session until a watcher sees it delivered.

The bare chain commits behind its two hops and notifies; whoever listens commits again and tells its watcher.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

from benchmarks.bench import Bench
from benchmarks.echo import WAKE
from benchmarks.figures import AtMost, Figure, Sample, compare, tail, together
from benchmarks.hops import Following, Hops, hops
from benchmarks.services import Services, nudge, services
from spark.agent.v1.agent_service_pb2 import StreamTranscriptRequest, StreamTranscriptResponse
from spark.agent.v1.agent_service_pb2_grpc import AgentServiceStub
from spark.gateway.v1.gateway_service_pb2_grpc import GatewayServiceStub

PATIENCE_SECONDS = 60
# In all more than 2,000: the 99th percentile of fewer is chance.
PAIRS = 230


async def figures(bench: Bench) -> list[Figure]:
    async with services(bench, "wake", replicas=2) as ours, hops(bench, "wake_bare", replicas=2) as bare:
        return [
            *await _both(bench, ours, bare, replica=0, where="the same replica"),
            *await _both(bench, ours, bare, replica=1, where="another replica"),
        ]


async def _both(bench: Bench, ours: Services, bare: Hops, replica: int, where: str) -> list[Figure]:
    """How long it takes, and how evenly, with the watcher at a replica. The post goes to the first."""
    size = bench.size(PAIRS)
    sleeping = iter(await ours.new_sessions(size.samples))
    async with bare.following(replica) as told:
        blocks = await compare(size, wake(ours, sleeping, replica), _bare_wake(bare, told))
    figure = Figure(
        f"wake, watched at {where}: post to delivered",
        "two hops of bare gRPC, a commit, NOTIFY to LISTEN, a commit",
        AtMost(2),
        blocks,
        "four round trips to PostgreSQL (claim, rows, safe point, event), and Python between them",
    )
    name, baseline = f"wake, watched at {where}: p99 over median", "p99 over median of that chain"
    even = Figure(
        name, baseline, AtMost(1.5), [together(blocks)], "what else the machine does", statistic=tail
    )
    return [figure, even]


def wake(ours: Services, sleeping: Iterator[str], replica: int) -> Sample:
    """Each sample wakes another session and lets its turn come to an end."""
    stream_transcript = AgentServiceStub(ours.agents[replica]).StreamTranscript
    post = GatewayServiceStub(ours.gateway).PostInterrupt

    async def sample() -> float:
        request = nudge(next(sleeping))
        opening = StreamTranscriptRequest(session_id=request.interrupt.session_id)
        stream = stream_transcript(opening, timeout=PATIENCE_SECONDS)
        watcher = _Watcher(aiter(stream))
        await watcher.until("synced")
        began = time.perf_counter()
        posted = asyncio.ensure_future(post(request))
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


def _bare_wake(bare: Hops, told: Following) -> Sample:
    post = bare.post(WAKE)

    async def sample() -> float:
        request = nudge("")
        began = time.perf_counter()
        posted = asyncio.ensure_future(post(request))
        await told.read()
        seconds = time.perf_counter() - began
        await posted
        return seconds

    return sample
