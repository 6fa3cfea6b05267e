"""The baseline of calls: hops of bare gRPC, each a process, with bare commits behind the last.

`python -m benchmarks.echo last DATABASE_URL` answers, `python -m benchmarks.echo hop ADDRESS` passes calls on
to that address. The first line on stdout is `listening HOST:PORT`.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator

import asyncpg
import grpc

SERVICE = "benchmarks.Echo"
# Give back the bytes that they are sent, one without a commit before it and one with.
ECHO, COMMIT = f"/{SERVICE}/Echo", f"/{SERVICE}/Commit"
# Streams what COMMIT is sent from then on, each after more commits, and before it an empty message.
FOLLOW, MORE_COMMITS = f"/{SERVICE}/Follow", 2

_INSERT = "INSERT INTO bare_commits (body) VALUES ($1)"


class LastHop:
    def __init__(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        self._connection, self._committed = connection, asyncio.Queue[bytes]()

    async def echo(self, request: bytes, context: object) -> bytes:
        return request

    async def commit(self, request: bytes, context: object) -> bytes:
        await self._connection.execute(_INSERT, request)
        self._committed.put_nowait(request)
        return request

    async def follow(self, request: bytes, context: object) -> AsyncIterator[bytes]:
        self._committed = asyncio.Queue()
        yield b""
        while True:
            committed = await self._committed.get()
            for _ in range(MORE_COMMITS):
                await self._connection.execute(_INSERT, committed)
            yield committed


def _passing_on(channel: grpc.aio.Channel, method: str) -> grpc.RpcMethodHandler[bytes, bytes]:
    forward: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(method)

    async def call(request: bytes, context: object) -> bytes:
        return await forward(request)

    return grpc.unary_unary_rpc_method_handler(call)


async def _serve(**handlers: grpc.RpcMethodHandler[bytes, bytes]) -> None:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"listening 127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


async def _last(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute("CREATE TABLE bare_commits (body bytea)")
    last = LastHop(connection)
    await _serve(
        Echo=grpc.unary_unary_rpc_method_handler(last.echo),
        Commit=grpc.unary_unary_rpc_method_handler(last.commit),
        Follow=grpc.unary_stream_rpc_method_handler(last.follow),
    )


async def _hop(address: str) -> None:
    async with grpc.aio.insecure_channel(address, options=(("grpc.enable_http_proxy", 0),)) as channel:
        await _serve(Echo=_passing_on(channel, ECHO), Commit=_passing_on(channel, COMMIT))


if __name__ == "__main__":
    part, target = sys.argv[1:]
    asyncio.run(_hop(target) if part == "hop" else _last(target))
