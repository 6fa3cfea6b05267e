"""A model server that is scripted: it streams, and writes down every request with how far it came."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.torture.history import History
from tests.torture.script import LONGEST_STALL_SECONDS, Call, Reply, Script, Trouble, pieces, tokens

_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"

# How often it is looked whether a reply that is held back may be given.
_LOOK_SECONDS = 0.02


class _Left(Exception):
    """The client has gone away."""


class _Cut(Exception):
    """The server goes away."""


@dataclass
class _Exchange:
    """A request, and what has been written of its reply."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    began: float = field(default_factory=time.time)
    first_at: float | None = None
    chunks: int = 0
    # Nothing that matters comes after the reason why the reply ends.
    finished: bool = False
    text: str = ""
    calls: list[Call] = field(default_factory=list)

    async def send(self, data: object) -> None:
        await self.write(f"data: {data if isinstance(data, str) else json.dumps(data)}\n\n".encode())

    async def delta(self, finish_reason: str | None = None, **delta: object) -> None:
        """A chunk with a choice. Who reads it may be quicker than we are with the next line."""
        self.first_at = self.first_at or time.time()
        await self.send({"choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]})
        self.chunks += 1
        self.finished = bool(finish_reason)

    async def refuse(self, status: int, message: str) -> None:
        body = json.dumps({"error": {"message": message}}).encode()
        head = f"HTTP/1.1 {status} Scripted\r\ncontent-type: application/json\r\nretry-after: 0.2\r\n"
        await self.write(f"{head}connection: close\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)

    async def pause(self, seconds: float) -> None:
        """Nothing more is to come from the client: what ends a pause early is that it leaves."""
        try:
            async with asyncio.timeout(seconds):
                await self.reader.read()
        except TimeoutError:
            return
        except OSError:
            pass
        raise _Left

    async def write(self, piece: bytes) -> None:
        if self.writer.transport.is_closing():
            raise _Left
        self.writer.write(piece)
        try:
            await self.writer.drain()
        except OSError:
            raise _Left from None


class ModelServer:
    """Can be down, which cuts what it is saying, and up again at the same port."""

    def __init__(self, script: Script, history: History) -> None:
        self._script, self._history = script, history
        self._talking: set[asyncio.Task] = set()
        self.port = 0

    async def start(self) -> None:
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        self._listener.close()
        talking = list(self._talking)
        for task in talking:
            task.cancel()
        await asyncio.gather(*talking, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._talking.add(task := asyncio.current_task())
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            if not head.startswith("POST "):
                writer.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                return
            headers = dict(line.lower().split(": ", 1) for line in head.strip().split("\r\n")[1:])
            body = json.loads(await reader.readexactly(int(headers["content-length"])))
            await self._answer(body, _Exchange(reader, writer))
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            self._talking.discard(task)
            writer.close()

    async def _answer(self, body: dict, exchange: _Exchange) -> None:
        ending = "cut"
        try:
            ending = await _say(self._script.reply(body), body, exchange)
        except _Left:
            ending = "gone"
        except _Cut:
            exchange.writer.transport.abort()
        finally:
            self._history.write(
                "asked",
                began=exchange.began,
                first_at=exchange.first_at,
                model=body["model"],
                body=body,
                chunks=exchange.chunks,
                text=exchange.text,
                calls=[vars(call) for call in exchange.calls],
                ending="whole" if exchange.finished else ending,
            )


async def _say(reply: Reply, body: dict, exchange: _Exchange) -> str:
    """How it ended. Raises _Left and _Cut."""
    if reply.error:
        await exchange.refuse(reply.status, reply.error)
        return "refused"
    await exchange.write(_HEAD)
    while reply.when and not reply.when.is_set():
        await exchange.pause(_LOOK_SECONDS)
    steps = [*pieces(reply.text), *reply.calls]
    pause, middle = reply.seconds / (len(steps) + 1), len(steps) // 2
    await exchange.pause(pause)
    if reply.reasoning:
        await exchange.delta(reasoning_content=reply.reasoning)
    for n, step in enumerate(steps):
        if n == middle and reply.trouble is Trouble.CUT:
            raise _Cut
        if n == middle and reply.trouble is Trouble.STALL:
            await exchange.pause(LONGEST_STALL_SECONDS)
        await _step(step, exchange)
        await exchange.pause(pause)
    await exchange.delta("tool_calls" if reply.calls else "stop")
    said = {"prompt_tokens": tokens(body), "completion_tokens": len(exchange.text) // 4 + 1}
    await exchange.send({"choices": [], "usage": said})
    await exchange.send("[DONE]")
    return "whole"


async def _step(step: str | Call, exchange: _Exchange) -> None:
    """What was to be said counts as said as soon as a part of it may have arrived."""
    if isinstance(step, str):
        exchange.text += step
        await exchange.delta(content=step)
        return
    index = len(exchange.calls)
    exchange.calls.append(step)
    function = {"name": step.name, "arguments": step.arguments}
    call = {"index": index, "id": step.id, "type": "function", "function": function}
    await exchange.delta(tool_calls=[call])


@asynccontextmanager
async def model_server(script: Script, history: History) -> AsyncIterator[ModelServer]:
    server = ModelServer(script, history)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
