"""An HTTP server that answers as a test wrote it, for what no real model server does on demand."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

DONE = "data: [DONE]\n\n"


@dataclass(frozen=True)
class Received:
    path: str
    headers: dict[str, str]
    body: dict


@dataclass
class ScriptedServer:
    """Gives its answers in order, the last one for ever, and keeps what it was asked."""

    answers: list[str]
    url: str = ""
    received: list[Received] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        start, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        self.received.append(Received(start.split()[1], headers, json.loads(body or "{}")))
        writer.write(self.answers[min(len(self.received), len(self.answers)) - 1].encode())
        await writer.drain()
        writer.close()


@asynccontextmanager
async def scripted(*answers: str) -> AsyncIterator[ScriptedServer]:
    script = ScriptedServer(list(answers))
    async with await asyncio.start_server(script.serve, "127.0.0.1", 0) as server:
        script.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        yield script


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
