"""`post`: a post through the gateway and the agent service, from the call to its acknowledgement.

The sessions are paused, by SQL, so that a deposit wakes nobody and is all that is measured.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from itertools import cycle, islice
from typing import TypeAlias

import asyncpg

from benchmarks.chains import Chains, nudge
from benchmarks.echo import COMMIT, ECHO
from benchmarks.figures import Figure, Sample, Size, compare
from spark.gateway.v1.gateway_service_pb2 import PostInterruptRequest
from spark.gateway.v1.gateway_service_pb2_grpc import GatewayServiceStub

# So many that none of them comes near to its limit of pending interrupts.
SESSIONS = 256
CALLERS = 64
POSTS_OF_EACH = 10

Post: TypeAlias = Callable[[PostInterruptRequest], Awaitable[object]]


async def figures(chains: Chains, alone: Size, together: Size) -> list[Figure]:
    nudges = map(nudge, cycle(await _paused_sessions(chains)))
    post = GatewayServiceStub(chains.gateway).PostInterrupt

    def one(post: Post) -> Sample:
        return _posts(post, nudges, callers=1, posts_of_each=1)

    def many(post: Post) -> Sample:
        return _posts(post, nudges, CALLERS, POSTS_OF_EACH)

    return [
        Figure(
            "post: 1 in flight",
            "two hops of bare gRPC and one bare commit",
            1.75,
            await compare(alone, one(post), one(bare_post(chains, COMMIT))),
        ),
        Figure(
            f"post: {CALLERS} in flight",
            "two hops of bare gRPC without a commit",
            1.0,
            await compare(together, many(post), many(bare_post(chains, ECHO))),
        ),
    ]


def bare_post(chains: Chains, method: str) -> Post:
    """The same message through both hops of the baseline and back."""
    return chains.hops.unary_unary(
        method, PostInterruptRequest.SerializeToString, PostInterruptRequest.FromString
    )


async def _paused_sessions(chains: Chains) -> list[str]:
    session_ids = await chains.new_sessions(SESSIONS)
    connection = await asyncpg.connect(chains.database_url)
    await connection.execute("UPDATE sessions SET state = 'paused'")
    await connection.close()
    return session_ids


def _posts(post: Post, nudges: Iterator[PostInterruptRequest], callers: int, posts_of_each: int) -> Sample:
    async def call(requests: list[PostInterruptRequest]) -> None:
        for request in requests:
            await post(request)

    async def sample() -> float:
        calls = [call(list(islice(nudges, posts_of_each))) for _ in range(callers)]
        began = time.perf_counter()
        await asyncio.gather(*calls)
        return time.perf_counter() - began

    return sample
