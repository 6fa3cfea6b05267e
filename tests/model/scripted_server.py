"""An HTTP server that answers as a test wrote it, for what no real model server does on demand."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

DONE = "data: [DONE]\n\n"

# In pieces, of which there may be no end.
Answer = str | Iterable[str]


@dataclass(frozen=True)
class Received:
    path: str
    headers: dict[str, str]
    body: dict


@dataclass
class ScriptedServer:
    """Gives its answers in order, the last one for ever, and keeps what it was asked."""

    answers: list[Answer]
    # After an answer, until the client goes away.
    stays_open: bool = False
    url: str = ""
    received: list[Received] = field(default_factory=list)
    # Set when a client has gone away before the server did.
    left: asyncio.Event = field(default_factory=asyncio.Event)
    _served: dict[asyncio.StreamWriter, asyncio.Task] = field(default_factory=dict)

    def answer_to(self, asked: Received) -> Answer:
        """What to answer to the request that was received last."""
        return self.answers[min(len(self.received), len(self.answers)) - 1]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._served[writer] = asyncio.current_task()
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await self._answer(reader, writer)
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        start, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        asked = Received(start.split()[1], headers, json.loads(body or "{}"))
        self.received.append(asked)
        answer = self.answer_to(asked)
        for piece in [answer] if isinstance(answer, str) else answer:
            writer.write(piece.encode())
            await writer.drain()
        if self.stays_open:
            await reader.read()
            self.left.set()

    async def close(self) -> None:
        for writer in self._served:
            writer.close()
        await asyncio.gather(*self._served.values())


@asynccontextmanager
async def scripted(*answers: str, stays_open: bool = False) -> AsyncIterator[ScriptedServer]:
    script = ScriptedServer(list(answers), stays_open)
    async with serving(script):
        yield script


@asynccontextmanager
async def serving(script: ScriptedServer, bound: socket.socket | None = None) -> AsyncIterator[None]:
    """At a socket that is bound already, or at any port."""
    bound = bound or socket.create_server(("127.0.0.1", 0))
    async with await asyncio.start_server(script.serve, sock=bound) as server:
        script.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        try:
            yield
        finally:
            await script.close()


def event(**data: object) -> str:
    return f"data: {json.dumps(data)}\n\n"


def delta(finish_reason: str | None = None, **delta: object) -> str:
    """An event with one choice."""
    return event(choices=[{"index": 0, "delta": delta, "finish_reason": finish_reason}])


def streamed(*events: str) -> str:
    """200 and the events; the body ends where the connection does."""
    head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
    return head + "".join(events)


def answered(status: int, body: object, **headers: str) -> str:
    text = body if isinstance(body, str) else json.dumps(body)
    head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    length = f"content-length: {len(text.encode())}\r\nconnection: close\r\n"
    return f"HTTP/1.1 {status} Scripted\r\ncontent-type: application/json\r\n{head}{length}\r\n{text}"
