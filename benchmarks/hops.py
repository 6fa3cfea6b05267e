"""The processes of the baseline, and what goes through them."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TypeAlias

import grpc

from benchmarks.bench import Bench
from benchmarks.echo import FOLLOW
from benchmarks.processes import channel, running
from spark.gateway.v1.gateway_service_pb2 import PostInterruptRequest

Post: TypeAlias = "grpc.aio.UnaryUnaryMultiCallable[PostInterruptRequest, PostInterruptRequest]"
Following: TypeAlias = "grpc.aio.UnaryStreamCall[bytes, bytes]"


@dataclass(frozen=True, slots=True)
class Hops:
    """Channels to the first hop, and to the last ones, of which only the first is behind it."""

    first: grpc.aio.Channel
    last: tuple[grpc.aio.Channel, ...]

    def post(self, method: str) -> Post:
        """The same message through both hops and back."""
        return self.first.unary_unary(
            method, PostInterruptRequest.SerializeToString, PostInterruptRequest.FromString
        )

    @asynccontextmanager
    async def following(self, last: int) -> AsyncIterator[Following]:
        follow: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = self.last[last].unary_stream(FOLLOW)
        call = follow(b"")
        await call.read()
        yield call
        call.cancel()


@asynccontextmanager
async def hops(bench: Bench, name: str, replicas: int = 1) -> AsyncIterator[Hops]:
    """Run them on a new database while the context is open."""
    database_url = await bench.new_database(name)
    async with AsyncExitStack() as stack:

        async def start(*arguments: str) -> str:
            process = running(bench.directory, "benchmarks.echo", *arguments)
            return (await stack.enter_async_context(process)).address

        last = [await start("last", database_url) for _ in range(replicas)]
        addresses = [await start("hop", last[0]), *last]
        channels = [await stack.enter_async_context(channel(address)) for address in addresses]
        yield Hops(channels[0], tuple(channels[1:]))
