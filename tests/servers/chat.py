"""A chat completions server whose replies a test writes by hand, piece by piece, in its own time."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

PATIENCE_SECONDS = 30

_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"


@dataclass(frozen=True, eq=False)
class Asked:
    """A request, for as long as its reply is not finished."""

    body: dict
    _reader: asyncio.StreamReader
    _writer: asyncio.StreamWriter

    @property
    def messages(self) -> list[dict]:
        return self.body["messages"]

    async def send(self, line: str) -> None:
        """One line of the event stream, as a server would send it."""
        self._writer.write(f"{line}\n\n".encode())
        await self._writer.drain()

    async def say(self, text: str) -> None:
        await self._delta(content=text)

    async def think(self, text: str) -> None:
        await self._delta(reasoning_content=text)

    async def call(self, call_id: str, name: str, arguments: str = "{}") -> None:
        """A tool call and the end of the reply."""
        await self.calls((call_id, name, arguments))

    async def calls(self, *calls: tuple[str, str, str]) -> None:
        """Tool calls, each with its id, name and arguments, and the end of the reply."""
        pieces = [
            {"index": n, "id": one, "type": "function", "function": {"name": name, "arguments": arguments}}
            for n, (one, name, arguments) in enumerate(calls)
        ]
        await self._delta(tool_calls=pieces)
        await self._finish("tool_calls")

    async def answer(self, text: str) -> None:
        """Words and the end of the reply."""
        await self.say(text)
        await self._finish("stop")

    async def given_up(self) -> None:
        """Wait until the client has gone away."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert await self._reader.read() == b""

    def close(self) -> None:
        self._writer.close()

    async def _finish(self, reason: str) -> None:
        await self._delta(reason)
        await self.send("data: [DONE]")
        self.close()

    async def _delta(self, finish_reason: str | None = None, **delta: object) -> None:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        await self.send(f"data: {json.dumps({'choices': [choice]})}")


@dataclass
class ChatServer:
    url: str = ""
    received: list[Asked] = field(default_factory=list)
    _waiting: list[Asked] = field(default_factory=list)
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def asked(self, about: str = "") -> Asked:
        """The next request that mentions something. Each request is given once."""

        def first() -> Asked | None:
            return next((one for one in self._waiting if about in json.dumps(one.body)), None)

        async with asyncio.timeout(PATIENCE_SECONDS), self._news:
            found = await self._news.wait_for(first)
        self._waiting.remove(found)
        return found

    def take_all(self) -> list[Asked]:
        """The requests that nobody was given yet."""
        taken, self._waiting = self._waiting, []
        return taken

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request of a connection. A client that dies before it has asked is none."""
        try:
            await self._serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"GET "):
            writer.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            writer.close()
            return
        headers = dict(line.lower().split(": ", 1) for line in head.decode().strip().split("\r\n")[1:])
        body = json.loads(await reader.readexactly(int(headers["content-length"])))
        asked = Asked(body, reader, writer)
        writer.write(_HEAD)
        async with self._news:
            self.received.append(asked)
            self._waiting.append(asked)
            self._news.notify_all()


@asynccontextmanager
async def chat_server() -> AsyncIterator[ChatServer]:
    chat = ChatServer()
    async with await asyncio.start_server(chat.serve, "127.0.0.1", 0) as server:
        chat.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        try:
            yield chat
        finally:
            for asked in chat.received:
                asked.close()
