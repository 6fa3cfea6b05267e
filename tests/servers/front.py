"""A chat completions server in front of a real one, llama.cpp's.

It answers for the model as a test tells it; whatever else is asked, the real server answers. So chat
templates decide, and not what a tiny model makes of them.
"""

import asyncio
import json
import sys
from asyncio.subprocess import DEVNULL, PIPE, create_subprocess_exec
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2

from tests.servers.chat import Asked, ChatServer

LLAMA = Path(__file__).parent / "llama.py"


def never(body: dict) -> bool:
    return False


@dataclass(frozen=True)
class Figures:
    """The tokens of a prompt, and how many of them, from its beginning on, were not read again."""

    prompt_tokens: int
    cached_tokens: int

    @property
    def event(self) -> str:
        """As the server tells them in a stream."""
        details = {"cached_tokens": self.cached_tokens}
        usage = {"prompt_tokens": self.prompt_tokens, "prompt_tokens_details": details}
        return f"data: {json.dumps({'choices': [], 'usage': usage})}"


@dataclass
class Front(ChatServer):
    """Hands chat completions to the test, and everything else to the server behind. It refuses what it is
    told to, and takes by itself what is only asked to see whether it is taken."""

    behind: str = ""
    refuses: Callable[[dict], bool] = never
    refused: list[dict] = field(default_factory=list)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        fields = dict(line.lower().split(": ", 1) for line in head.decode().strip().split("\r\n")[1:])
        asked = head + await reader.readexactly(int(fields.get("content-length", 0)))
        if b"/chat/completions " not in head:
            await self._pass_on(asked, writer)
            return
        body = json.loads(asked[len(head) :])
        if self.refuses(body):
            self.refused.append(body)
            await _write(writer, "400 Bad Request", {"error": {"message": "No late system message."}})
        else:
            again = asyncio.StreamReader()
            again.feed_data(asked)
            await super()._serve(again, writer)
            if body.get("max_tokens"):
                await (await self.asked('"max_tokens": 1')).answer("Y")

    async def _pass_on(self, asked: bytes, writer: asyncio.StreamWriter) -> None:
        host, _, port = self.behind.rpartition(":")
        answers, asks = await asyncio.open_connection(host, int(port))
        asks.write(asked)
        writer.write(await answers.read())
        asks.close()
        writer.close()

    async def prompt(self, asked: Asked) -> str:
        """What the real server makes of a request."""
        return (await self._post("/apply-template", asked.body))["prompt"]

    async def figures(self, asked: Asked) -> Figures:
        """What the real server counts when it reads a request. It has it at hand from then on."""
        read = asked.body | {"stream": False, "stream_options": None, "max_tokens": 1}
        usage = (await self._post("/v1/chat/completions", read))["usage"]
        return Figures(usage["prompt_tokens"], usage["prompt_tokens_details"]["cached_tokens"])

    async def _post(self, path: str, body: dict) -> dict:
        async with httpx2.AsyncClient(timeout=30) as client:
            return (await client.post(f"http://{self.behind}{path}", json=body)).json()


async def _write(writer: asyncio.StreamWriter, status: str, body: dict) -> None:
    text = json.dumps(body).encode()
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\n"
    writer.write(f"{head}content-length: {len(text)}\r\n\r\n".encode() + text)
    await writer.drain()
    writer.close()


@asynccontextmanager
async def front_of(template: Path, context: int = 4096) -> AsyncIterator[Front]:
    command = [sys.executable, str(LLAMA), "--template", str(template), "--context", str(context)]
    process = await create_subprocess_exec(*command, stdout=PIPE, stderr=DEVNULL)
    try:
        assert process.stdout
        front = Front(behind=(await process.stdout.readline()).decode().split()[1])
        async with await asyncio.start_server(front.serve, "127.0.0.1", 0) as server:
            front.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
            yield front
            for asked in front.received:
                asked.close()
    finally:
        process.terminate()
        await process.communicate()
