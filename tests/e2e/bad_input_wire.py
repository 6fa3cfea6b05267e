"""A connection on which anything can be said: just enough HTTP/2 to begin a call, and no more."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from tests.e2e.processes import PATIENCE_SECONDS

_DATA, _HEADERS, _SETTINGS, _WINDOW_UPDATE = 0, 1, 4, 8
_END_STREAM, _END_HEADERS = 1, 4
_INITIAL_WINDOW_SIZE = 4
_GREATEST_WINDOW = 2**31 - 1
_USUAL_WINDOW = 2**16 - 1
_THE_CONNECTION, _THE_CALL = 0, 1


@dataclass(frozen=True)
class Wire:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def say(self, noise: bytes) -> None:
        self.writer.write(noise)

    def call(self, path: str, message: bytes) -> None:
        """Begin the only call of the connection."""
        self.say(_HELLO + _headers(path.encode()) + _body(message))

    async def until_heard(self, words: bytes) -> None:
        """Read no further than needed to find the words in it."""
        heard = b""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while words not in heard:
                piece = await self.reader.read(1024)
                assert piece, f"hung up after {heard!r}"
                heard += piece

    async def until_hung_up(self) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            with suppress(ConnectionResetError):
                while await self.reader.read(1024):
                    pass

    def vanish(self) -> None:
        """Be gone without a goodbye: the other side gets a reset."""
        at_once = struct.pack("ii", 1, 0)
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
        self.writer.transport.abort()


@asynccontextmanager
async def wire(address: str) -> AsyncIterator[Wire]:
    host, port = address.rsplit(":", 1)
    # What nobody reads here is to stay with the sender, but for a little.
    reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
    try:
        yield Wire(reader, writer)
    finally:
        writer.transport.abort()


def _headers(path: bytes) -> bytes:
    fields = {
        b":method": b"POST",
        b":scheme": b"http",
        b":path": path,
        b":authority": b"spark",
        b"te": b"trailers",
        b"content-type": b"application/grpc",
    }
    block = b"".join(b"\0" + _short(name) + _short(value) for name, value in fields.items())
    return _frame(_HEADERS, _END_HEADERS, _THE_CALL, block)


def _body(message: bytes) -> bytes:
    return _frame(_DATA, _END_STREAM, _THE_CALL, struct.pack(">BI", 0, len(message)) + message)


def _short(text: bytes) -> bytes:
    assert len(text) < 127, "a longer one is written in another way"
    return bytes([len(text)]) + text


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


# From a client that says it takes everything at once.
_HELLO = (
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    + _frame(_SETTINGS, 0, _THE_CONNECTION, struct.pack(">HI", _INITIAL_WINDOW_SIZE, _GREATEST_WINDOW))
    + _frame(_WINDOW_UPDATE, 0, _THE_CONNECTION, struct.pack(">I", _GREATEST_WINDOW - _USUAL_WINDOW))
)
