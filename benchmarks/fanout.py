"""`fanout`: one session with many watchers, half of them at each of two replicas.

The baseline sends the same messages to as many clients by bare server streams, from two processes too.
`python -m benchmarks.fanout` runs one of these: whatever it is told goes to everybody who follows. The first
line on stdout is `listening HOST:PORT`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from itertools import count, cycle, islice
from pathlib import Path
from statistics import median
from typing import TypeAlias
from uuid import uuid4

import asyncpg
import grpc

from benchmarks.bench import Bench
from benchmarks.figures import Block, Figure, Sample, compare, together
from benchmarks.processes import channel, running
from benchmarks.services import Services, nudge, services
from spark.agent.v1.agent_service_pb2 import (
    Deposit,
    DepositInterruptsRequest,
    StreamTranscriptRequest,
    StreamTranscriptResponse,
)
from spark.agent.v1.agent_service_pb2_grpc import AgentServiceStub
from spark.agent.v1.event_pb2 import Event, InterruptPosted

REPLICAS = 2
WATCHERS, SMOKE_WATCHERS = 500, 10
# Said one after another. What is on its way to somebody still may travel on with the next.
BURST = 20
SERVICE = "benchmarks.Fanout"
FOLLOW, TELL = f"/{SERVICE}/Follow", f"/{SERVICE}/Tell"
STREAM_TRANSCRIPT = "/spark.agent.v1.AgentService/StreamTranscript"

# A page is read by one scan. The processes have told of theirs when they are gone.
_SCANS = "SELECT idx_scan + seq_scan FROM pg_stat_user_tables WHERE relname = 'events'"
_EVENTS = "SELECT count(*) FROM events"

Stream: TypeAlias = "grpc.aio.UnaryStreamCall[bytes, bytes]"
Open: TypeAlias = "grpc.aio.UnaryStreamMultiCallable[bytes, bytes]"
Tell: TypeAlias = "grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]"
# A sample of so many events.
Tells: TypeAlias = Callable[[int], Sample]


class Crowd:
    """Watchers, and how many events each of them has been shown."""

    def __init__(self, streams: Sequence[Stream]) -> None:
        self._streams, self._shown, self._news = streams, [0] * len(streams), asyncio.Event()

    async def watch(self, number: int) -> None:
        while isinstance(response := await self._streams[number].read(), bytes):
            self._shown[number] += len(StreamTranscriptResponse.FromString(response).events)
            self._news.set()

    async def until(self, events: int) -> None:
        """Until everybody has been shown so many."""
        while min(self._shown) < events:
            self._news.clear()
            await self._news.wait()


@asynccontextmanager
async def _crowd(streams: Sequence[Stream]) -> AsyncIterator[Crowd]:
    """They watch, each from its second message on, while the context is open."""
    for stream in streams:
        await stream.read()
    crowd = Crowd(streams)
    async with asyncio.TaskGroup() as tasks:
        watching = [tasks.create_task(crowd.watch(number)) for number in range(len(streams))]
        yield crowd
        for task in watching:
            task.cancel()


def _told(crowd: Crowd, said: Iterator[int], say: Callable[[], Awaitable[object]], events: int) -> Sample:
    """How long it takes until everybody has been told so many things."""

    async def sample() -> float:
        began, last = time.perf_counter(), 0
        for _ in range(events):
            await say()
            last = next(said)
        await crowd.until(last)
        return time.perf_counter() - began

    return sample


async def figures(bench: Bench) -> list[Figure]:
    watchers = bench.choose(WATCHERS, smoke=SMOKE_WATCHERS)
    async with (
        services(bench, "fanout", REPLICAS) as spark,
        _spark(spark, watchers) as told,
        _bare(bench.directory, watchers) as told_bare,
    ):
        one = await compare(bench.size(pairs=3), told(1), told_bare(1))
        many = await compare(bench.size(pairs=1), told(BURST), told_bare(BURST))
    connection = await asyncpg.connect(spark.database_url)
    scans, events = await connection.fetchval(_SCANS), await connection.fetchval(_EVENTS)
    await connection.close()
    rate = BURST * watchers / median(together(many).measured)
    to, limit = "bare server streams", "a message of its own for each watcher, by one process at each replica"
    return [
        Figure(f"fan-out: an event to the last of {watchers}", to, None, one, limit),
        Figure(*(f"fan-out: {BURST} events to {watchers}", to, None, many, limit), f"{rate:,.0f} a second"),
        Figure(
            "fan-out: reads of the database",
            "one for each event and replica",
            None,
            [Block([scans], [events * REPLICAS])],
            "what is new is read once for all who watch, and several events at once under load",
        ),
    ]


@asynccontextmanager
async def _spark(spark: Services, watchers: int) -> AsyncIterator[Tells]:
    """Deposits into a session that is paused, so that they are all that happens."""
    (session_id,) = await spark.paused_sessions(1)
    agent = AgentServiceStub(spark.agents[0])
    request = StreamTranscriptRequest(session_id=session_id, after_revision=1).SerializeToString()

    def say() -> Awaitable[object]:
        post = nudge(session_id)
        deposit = Deposit(interrupt=post.interrupt, request_id=post.request_id)
        return agent.DepositInterrupts(DepositInterruptsRequest(deposits=[deposit]))

    async with _crowd(_streams(spark.agents, STREAM_TRANSCRIPT, request, watchers)) as crowd:
        yield partial(_told, crowd, count(1), say)


@asynccontextmanager
async def _bare(directory: Path, watchers: int) -> AsyncIterator[Tells]:
    interrupt = InterruptPosted(interrupt=nudge(str(uuid4())).interrupt)
    message = StreamTranscriptResponse(events=[Event(revision=1, interrupt_posted=interrupt)])
    async with AsyncExitStack() as stack:
        channels = []
        for _ in range(REPLICAS):
            process = await stack.enter_async_context(running(directory, "benchmarks.fanout"))
            channels.append(await stack.enter_async_context(channel(process.address)))
        tells: list[Tell] = [replica.unary_unary(TELL) for replica in channels]

        def say() -> Awaitable[object]:
            return asyncio.gather(*(tell(message.SerializeToString()) for tell in tells))

        async with _crowd(_streams(channels, FOLLOW, b"", watchers)) as crowd:
            yield partial(_told, crowd, count(1), say)


def _streams(
    channels: Sequence[grpc.aio.Channel], method: str, request: bytes, watchers: int
) -> list[Stream]:
    opens: list[Open] = [replica.unary_stream(method) for replica in channels]
    return [open_stream(request) for open_stream in islice(cycle(opens), watchers)]


class Server:
    """Passes on whatever it is told."""

    def __init__(self) -> None:
        self._followers: list[asyncio.Queue[bytes]] = []

    async def follow(self, request: bytes, context: object) -> AsyncIterator[bytes]:
        told = asyncio.Queue[bytes]()
        self._followers.append(told)
        yield b""
        while True:
            yield await told.get()

    async def tell(self, request: bytes, context: object) -> bytes:
        for told in self._followers:
            told.put_nowait(request)
        return b""


async def _serve() -> None:
    bare, server = Server(), grpc.aio.server()
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        "Follow": grpc.unary_stream_rpc_method_handler(bare.follow),
        "Tell": grpc.unary_unary_rpc_method_handler(bare.tell),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"listening 127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(_serve())
