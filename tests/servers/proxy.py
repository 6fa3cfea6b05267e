"""A TCP proxy that does to connections what networks do: cuts, half-closes, holds up and refuses them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from enum import Enum

_Pair = tuple[asyncio.StreamWriter, asyncio.StreamWriter]


class Way(Enum):
    UP = "from the client to the server"
    DOWN = "from the server to the client"


class Proxy:
    """Listens at a port of 127.0.0.1. What is done here is done to all of its connections."""

    def __init__(self, server_port: int, tasks: asyncio.TaskGroup) -> None:
        self.port = 0
        self._server_port, self._tasks = server_port, tasks
        self._pairs: set[_Pair] = set()
        self._ended: set[asyncio.StreamWriter] = set()
        self._flows = asyncio.Event()
        self._flows.set()
        self._cut_in: dict[Way, int] = {}

    def cut(self) -> None:
        for client, server in self._pairs:
            client.transport.abort()
            server.transport.abort()

    def cut_at(self, way: Way, piece: int) -> None:
        """Cut when the so many-th piece from now on is to go this way, which it then does not. A piece is
        what a side writes at once."""
        self._cut_in = {way: piece}

    def spare(self) -> bool:
        """Take back what `cut_at` has ordered. Whether there was still something to take back."""
        spared, self._cut_in = bool(self._cut_in), {}
        return spared

    def end(self, way: Way) -> None:
        """Say that nothing more comes this way; the other one stays open."""
        for client, server in self._pairs:
            writer = server if way is Way.UP else client
            self._ended.add(writer)
            with suppress(OSError):  # The other side has gone by itself.
                writer.write_eof()

    def hold(self) -> None:
        """Carry nothing, as if the other side had vanished. New connections are taken, and not answered."""
        self._flows.clear()

    def flow(self) -> None:
        """Carry what was held up, and what comes."""
        self._flows.set()

    async def listen(self) -> None:
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._listener.sockets[0].getsockname()[1]

    def refuse(self) -> None:
        """Cut, and take no connection until told to listen."""
        self._listener.close()
        self.cut()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.create_task(self._serve(reader, writer))

    async def _serve(self, client_reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        try:
            server_reader, server = await asyncio.open_connection("127.0.0.1", self._server_port)
        except OSError:
            client.transport.abort()
            return
        self._pairs.add(pair := (client, server))
        await asyncio.gather(
            self._carry(Way.UP, client_reader, server, pair),
            self._carry(Way.DOWN, server_reader, client, pair),
        )
        self._pairs.discard(pair)
        self._ended.difference_update(pair)
        for writer in pair:
            writer.close()

    async def _carry(
        self, way: Way, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pair: _Pair
    ) -> None:
        try:
            while piece := await reader.read(1 << 20):
                await self._flows.wait()
                if self._is_cut_at_this_piece(way):
                    self.cut()
                    return
                if writer in self._ended:
                    continue
                writer.write(piece)
                await writer.drain()
            writer.write_eof()
        except OSError:
            for one in pair:
                one.transport.abort()

    def _is_cut_at_this_piece(self, way: Way) -> bool:
        if way in self._cut_in:
            self._cut_in[way] -= 1
            if not self._cut_in[way]:
                self._cut_in.clear()
                return True
        return False


@asynccontextmanager
async def proxy(server_port: int) -> AsyncIterator[Proxy]:
    """A proxy in front of a port of 127.0.0.1."""
    async with asyncio.TaskGroup() as tasks:
        made = Proxy(server_port, tasks)
        await made.listen()
        try:
            yield made
        finally:
            made.refuse()
            made.flow()
