"""`post`: a post through the gateway and the agent service, from the call to its acknowledgement."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from itertools import cycle, islice
from typing import TypeAlias

from benchmarks.bench import Bench
from benchmarks.echo import BATCHED, COMMIT, ECHO
from benchmarks.figures import AtLeast, AtMost, Figure, Sample, compare
from benchmarks.hops import hops
from benchmarks.services import nudge, services
from spark.gateway.v1.gateway_service_pb2 import PostInterruptRequest
from spark.gateway.v1.gateway_service_pb2_grpc import GatewayServiceStub

CALLERS = 64
POSTS_OF_EACH = 10
# So many that none of them comes near to its limit of pending interrupts.
SESSIONS = CALLERS * POSTS_OF_EACH

_Post: TypeAlias = Callable[[PostInterruptRequest], Awaitable[object]]


async def figures(bench: Bench) -> list[Figure]:
    async with services(bench, "post") as ours, hops(bench, "post_bare") as bare:
        nudges = map(nudge, cycle(await ours.paused_sessions(bench.choose(SESSIONS, smoke=CALLERS))))
        post = GatewayServiceStub(ours.gateway).PostInterrupt

        def one(post: _Post) -> Sample:
            return _seconds(post, nudges)

        def many(post: _Post) -> Sample:
            return _throughput(post, nudges)

        few, lots = bench.size(pairs=100), bench.size(pairs=3, blocks=15)
        return [
            Figure(
                f"post, {CALLERS} in flight: posts a second",
                "two hops of bare gRPC, one inner call for each, nothing stored",
                AtLeast(1),
                await compare(lots, many(post), many(bare.post(ECHO))),
                "CPU: gRPC in Python, a call for each post, at the gateway and its caller",
            ),
            Figure(
                f"post, {CALLERS} in flight: posts a second",
                "two hops of bare gRPC, what waits in one inner call, nothing stored",
                None,
                await compare(lots, many(post), many(bare.post(BATCHED))),
                "CPU: checks, conversions and rows in Python at the agent service",
            ),
            Figure(
                "post, 1 in flight: time",
                "two hops of bare gRPC and one bare commit",
                AtMost(1.75),
                await compare(few, one(post), one(bare.post(COMMIT))),
                "CPU: checks and conversions, and three rows to write in the commit",
            ),
        ]


def _seconds(post: _Post, nudges: Iterator[PostInterruptRequest]) -> Sample:
    async def sample() -> float:
        request = next(nudges)
        began = time.perf_counter()
        await post(request)
        return time.perf_counter() - began

    return sample


def _throughput(post: _Post, nudges: Iterator[PostInterruptRequest]) -> Sample:
    """Callers that each post one after the other."""

    async def call(requests: list[PostInterruptRequest]) -> None:
        for request in requests:
            await post(request)

    async def sample() -> float:
        calls = [call(list(islice(nudges, POSTS_OF_EACH))) for _ in range(CALLERS)]
        began = time.perf_counter()
        await asyncio.gather(*calls)
        return CALLERS * POSTS_OF_EACH / (time.perf_counter() - began)

    return sample
