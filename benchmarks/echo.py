"""The baseline of calls: hops of bare gRPC, each a process, with bare commits behind the last.

`python -m benchmarks.echo last DATABASE_URL` answers, `python -m benchmarks.echo hop ADDRESS` passes calls on
to that address. The first line on stdout is `listening HOST:PORT`.
"""

from __future__ import annotations

import asyncio
import marshal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import TypeAlias

import asyncpg
import grpc

from agent_service.store.servers import Own
from benchmarks.processes import channel

_SERVICE = "benchmarks.Echo"
# Give back the bytes that they are sent: at once, with those that wait at the same time in one inner call,
# after a commit, or after a commit of which all last hops are then notified.
ECHO, BATCHED = f"/{_SERVICE}/Echo", f"/{_SERVICE}/Batched"
COMMIT, WAKE = f"/{_SERVICE}/Commit", f"/{_SERVICE}/Wake"
# Streams a message for each notification, after another commit; and one before them, once it listens.
FOLLOW = f"/{_SERVICE}/Follow"

# As the gateway does.
_BATCHED_CALLS = 2

_TABLE = "CREATE TABLE IF NOT EXISTS bare_commits (body bytea)"
_INSERT = "INSERT INTO bare_commits (body) VALUES ($1)"
_CHANNEL = "bare_commits"
_NOTIFY = f"NOTIFY {_CHANNEL}"

Pass: TypeAlias = "grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]"


class LastHop:
    """Commits, notifies, and commits for whoever follows, each on a connection of its own."""

    def __init__(self, posts: Own, notifies: Own, follows: Own) -> None:
        self._posts, self._notifies, self._follows = posts, notifies, follows
        self._committed, self._notified = asyncio.Event(), asyncio.Queue[None]()

    async def echo(self, request: bytes, context: object) -> bytes:
        return request

    async def commit(self, request: bytes, context: object) -> bytes:
        await self._posts.execute(_INSERT, request)
        return request

    async def wake(self, request: bytes, context: object) -> bytes:
        await self._posts.execute(_INSERT, request)
        self._committed.set()
        return request

    async def notify(self) -> None:
        """Tell of what has been committed, for ever."""
        while await self._committed.wait():
            self._committed.clear()
            await self._notifies.execute(_NOTIFY)

    def hear(self, *_: object) -> None:
        self._notified.put_nowait(None)

    async def follow(self, request: bytes, context: object) -> AsyncIterator[bytes]:
        self._notified = asyncio.Queue()
        yield b"listening"
        while True:
            await self._notified.get()
            await self._follows.execute(_INSERT, b"delivered")
            yield b"delivered"


@dataclass(slots=True)
class Batching:
    """Sends what waits at the same time in one call."""

    forward: Pass
    tasks: asyncio.TaskGroup
    waiting: list[tuple[bytes, asyncio.Future[bytes]]] = field(default_factory=list)
    calls: int = 0

    async def echo(self, request: bytes, context: object) -> bytes:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[bytes] = loop.create_future()
        self.waiting.append((request, answer))
        loop.call_soon(self._leave)
        return await answer

    def _leave(self) -> None:
        if self.waiting and self.calls < _BATCHED_CALLS:
            self.calls += 1
            together, self.waiting = self.waiting, []
            self.tasks.create_task(self._send(together))

    async def _send(self, together: list[tuple[bytes, asyncio.Future[bytes]]]) -> None:
        answers = marshal.loads(await self.forward(marshal.dumps([request for request, _ in together])))
        for (_, waiting), answer in zip(together, answers, strict=True):
            waiting.set_result(answer)
        self.calls -= 1
        self._leave()


def _passing_on(forward: Pass) -> grpc.RpcMethodHandler[bytes, bytes]:
    async def call(request: bytes, context: object) -> bytes:
        return await forward(request)

    return grpc.unary_unary_rpc_method_handler(call)


async def _serve(**handlers: grpc.RpcMethodHandler[bytes, bytes]) -> None:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"listening 127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


async def _last(database_url: str) -> None:
    posts, notifies, follows, listens = [await asyncpg.connect(database_url) for _ in range(4)]
    await posts.execute(_TABLE)
    last = LastHop(posts, notifies, follows)
    await listens.add_listener(_CHANNEL, last.hear)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(last.notify())
        await _serve(
            Echo=grpc.unary_unary_rpc_method_handler(last.echo),
            Commit=grpc.unary_unary_rpc_method_handler(last.commit),
            Wake=grpc.unary_unary_rpc_method_handler(last.wake),
            Follow=grpc.unary_stream_rpc_method_handler(last.follow),
        )


async def _hop(address: str) -> None:
    async with channel(address) as onwards, asyncio.TaskGroup() as tasks:
        batching = Batching(onwards.unary_unary(ECHO), tasks)
        await _serve(
            Echo=_passing_on(onwards.unary_unary(ECHO)),
            Batched=grpc.unary_unary_rpc_method_handler(batching.echo),
            Commit=_passing_on(onwards.unary_unary(COMMIT)),
            Wake=_passing_on(onwards.unary_unary(WAKE)),
        )


if __name__ == "__main__":
    part, target = sys.argv[1:]
    asyncio.run(_hop(target) if part == "hop" else _last(target))
