"""What the scripted model server writes down is what it has said, and no more."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

from tests.support import until
from tests.torture.history import history
from tests.torture.model import ModelServer, model_server
from tests.torture.script import CONTEXT_TOKENS, Call, Reply, Script, Trouble

WORDS = Reply("One two three.", calls=(Call("call_1", "now", "{}"),))
SILENCE_SECONDS = 3600


@dataclass
class Always:
    """A script of one reply."""

    answer: Reply

    def reply(self, body: dict) -> Reply:
        return self.answer


@dataclass(frozen=True)
class Client:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def until(self, words: str) -> str:
        return (await self.reader.readuntil(words.encode())).decode()


@dataclass(frozen=True)
class Site:
    server: ModelServer
    client: Client
    lines: Callable[[], list[dict]]

    async def line(self) -> dict:
        """What was written down of the request."""

        async def there() -> bool:
            return bool(self.lines())

        await until(there)
        [line] = self.lines()
        return line


@asynccontextmanager
async def asked(directory: Path, reply: Reply) -> AsyncIterator[Site]:
    """A server that is asked once."""
    with history(directory) as written:
        async with model_server(Always(reply), written) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            body = json.dumps({"model": "scripted", "messages": []})
            writer.write(f"POST /v1 HTTP/1.1\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode())

            def lines() -> list[dict]:
                return [json.loads(line) for line in (directory / "history.jsonl").read_text().splitlines()]

            yield Site(server, Client(reader, writer), lines)
            writer.close()


async def test_a_whole_reply(tmp_path: Path) -> None:
    async with asked(tmp_path, WORDS) as site:
        await site.client.until("[DONE]")
        line = await site.line()
    assert (line["ending"], line["text"]) == ("whole", "One two three.")
    assert line["calls"] == [{"id": "call_1", "name": "now", "arguments": "{}"}]
    assert line["began"] <= line["first_at"] <= line["at"]


async def test_a_client_that_leaves_before_the_first_word(tmp_path: Path) -> None:
    async with asked(tmp_path, Reply("One.", seconds=SILENCE_SECONDS)) as site:
        await site.client.until("\r\n\r\n")
        site.client.writer.close()
        line = await site.line()
    assert (line["ending"], line["chunks"], line["first_at"], line["text"]) == ("gone", 0, None, "")


async def test_a_reply_that_is_held_back(tmp_path: Path) -> None:
    given = asyncio.Event()
    async with asked(tmp_path, Reply("One.", when=given)) as site:
        await site.client.until("\r\n\r\n")
        assert site.lines() == []
        given.set()
        await site.client.until("[DONE]")
        assert (await site.line())["ending"] == "whole"


@pytest.mark.parametrize("stopped", [True, False])
async def test_a_reply_that_the_server_cuts(tmp_path: Path, stopped: bool) -> None:
    """Whether the server goes down or only the connection."""
    reply = Reply("One two three.", "Hm.", seconds=SILENCE_SECONDS * stopped, trouble=Trouble.CUT)
    async with asked(tmp_path, reply) as site:
        await site.client.until("\r\n\r\n")
        if stopped:
            await site.server.stop()
        line = await site.line()
        assert 'finish_reason": "' not in (await site.client.reader.read()).decode()
    assert line["ending"] == "cut"
    assert line["text"] != "One two three."


async def test_a_refusal(tmp_path: Path) -> None:
    async with asked(tmp_path, Reply(status=503, error="The model is tired.")) as site:
        assert "503" in await site.client.until("\r\n")
        line = await site.line()
    assert (line["ending"], line["chunks"]) == ("refused", 0)


def test_what_does_not_fit_the_window_is_refused() -> None:
    script = Script(Random(1))
    script.wild = False
    short = {"messages": [{"role": "user", "content": "Go on."}]}
    long = {"messages": [{"role": "user", "content": "Go on. " * CONTEXT_TOKENS}]}
    assert script.reply(short).status == 200
    assert "maximum context length" in script.reply(long).error
