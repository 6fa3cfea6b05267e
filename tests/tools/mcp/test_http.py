"""Servers behind a URL that misbehave in the way of the web."""

import asyncio
import gzip
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from agent_service.settings import SettingsError
from agent_service.tools.tool_set import SetState
from tests.support import until
from tests.tools.mcp.running import called, running

INITIALIZED = {
    "protocolVersion": "2025-11-25",
    "capabilities": {"tools": {}},
    "serverInfo": {"name": "web", "version": "1"},
}


@asynccontextmanager
async def serving(answer, heads: list[str] | None = None) -> AsyncIterator[str]:
    """A server that answers a message with status, headers and body, or hangs for None. It keeps the heads of
    the requests."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        if heads is not None:
            heads.append(head)
        length = next((line for line in head.lower().splitlines() if line.startswith("content-length")), ":0")
        body = await reader.readexactly(int(length.partition(":")[2]))
        answered = answer(head.split()[0], json.loads(body or "{}"))
        if answered is None:
            await reader.read()
        else:
            status, headers, content = answered
            writer.write(f"HTTP/1.1 {status} Said\r\ncontent-length: {len(content)}\r\n".encode())
            writer.write(f"{headers}connection: close\r\n\r\n".encode() + content)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/mcp"


def json_answer(message: dict, headers: str = "", **more: object) -> tuple[int, str, bytes]:
    body = json.dumps({"jsonrpc": "2.0", "id": message["id"], **more}).encode()
    return 200, f"content-type: application/json\r\n{headers}", body


def handshake(message: dict) -> tuple[int, str, bytes]:
    """What every server answers that speaks the protocol of 2025."""
    match message.get("method"):
        case "initialize":
            return json_answer(message, "mcp-session-id: s1\r\n", result=INITIALIZED)
        case "tools/list":
            tool = {"name": "act", "inputSchema": {"type": "object"}}
            return json_answer(message, result={"tools": [tool]})
        case "notifications/initialized":
            return 202, "", b""
        case _:
            return 404, "", b""


async def test_a_server_that_hangs_at_the_goodbye_holds_nobody_up() -> None:
    said = []

    def answer(method: str, message: dict):
        said.append(method)
        return handshake(message) if method == "POST" else None

    async with serving(answer) as url:
        async with asyncio.timeout(30):
            async with running(url=url) as one:
                assert one.standing.state is SetState.UP
    assert said[-1] == "DELETE"


async def test_a_compressed_answer_that_nobody_asked_for_is_not_unpacked() -> None:
    def answer(method: str, message: dict):
        status, headers, body = handshake(message)
        return status, f"{headers}content-encoding: gzip\r\n", gzip.compress(body)

    async with serving(answer) as url, running(url=url) as one:
        assert one.standing.state is SetState.DOWN
        assert one.standing.detail == "compresses its answers, though it was asked not to"


async def test_a_server_that_forgot_the_session_is_started_with_again() -> None:
    forgotten = asyncio.Event()

    def answer(method: str, message: dict):
        if message.get("method") == "initialize":
            forgotten.clear()
        if message.get("method") == "tools/call":
            forgotten.set()
        return (404, "", b"") if forgotten.is_set() else handshake(message)

    async with serving(answer) as url, running(url=url, poll=0.05) as one:
        assert (await called(one, "act"))[1]

        async def up_again() -> bool:
            return not forgotten.is_set() and one.standing.state is SetState.UP

        await until(up_again)


async def test_a_url_where_nobody_listens_cannot_be_reached() -> None:
    async with running(url="http://127.0.0.1:9/mcp") as one:
        assert (one.standing.state, one.standing.detail) == (SetState.DOWN, "cannot be reached")


async def test_a_url_where_something_else_listens_is_refused() -> None:
    async with serving(lambda method, message: (401, "", b"no")) as url, running(url=url) as one:
        assert one.standing.state is SetState.DOWN
        assert one.standing.detail == "refused: Server returned an error response"


async def test_a_header_whose_value_is_in_the_environment_is_in_every_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LOG_KEY", "Bearer abc123\n")
    heads: list[str] = []
    async with (
        serving(lambda method, message: handshake(message), heads) as url,
        running(url=url, headers_env={"Authorization": "LOG_KEY"}) as one,
    ):
        assert one.standing.state is SetState.UP
        await called(one, "act")
    assert {head.split()[0] for head in heads} >= {"POST", "DELETE"}
    sent = [re.findall(r"^authorization: (.*)\r$", head, re.IGNORECASE | re.MULTILINE) for head in heads]
    assert sent == [["Bearer abc123"]] * len(heads)


@pytest.mark.parametrize(
    ("value", "wrong"),
    [
        (None, "is not set"),
        (" ", "is not set"),
        ("a\nb", "holds what cannot be sent"),
        ("ä", "holds what cannot"),
    ],
)
async def test_a_header_that_cannot_be_sent_is_refused_by_the_name_of_its_variable(
    monkeypatch: pytest.MonkeyPatch, value: str | None, wrong: str
) -> None:
    if value is not None:
        monkeypatch.setenv("LOG_KEY", value)
    with pytest.raises(SettingsError, match=f"^headers_env: the variable LOG_KEY {wrong}"):
        async with running(url="http://127.0.0.1:9/mcp", headers_env={"Authorization": "LOG_KEY"}):
            pass


async def test_a_tool_that_is_not_valid_costs_itself_and_not_its_set() -> None:
    def answer(method: str, message: dict):
        if message.get("method") != "tools/list":
            return handshake(message)
        tools = [
            {"name": "bad", "inputSchema": {"type": "string"}},
            {"name": "act", "inputSchema": {"type": "object"}},
        ]
        return json_answer(message, result={"tools": tools})

    async with serving(answer) as url, running(url=url) as one:
        assert [tool.spec.name for tool in one.tools] == ["light_act"]
        assert one.standing.offers[-1].left_out == "is not valid: inputSchema.type makes no sense"


async def test_an_answer_of_too_many_parts_is_an_error_and_no_more() -> None:
    def answer(method: str, message: dict):
        if message.get("method") != "tools/call":
            return handshake(message)
        return json_answer(message, result={"content": [], "structuredContent": {"a": [[]] * 300_000}})

    async with serving(answer) as url, running(url=url) as one:
        assert (await called(one, "act"))[1]
        assert one.standing.state is SetState.UP


async def test_of_a_list_on_pages_without_an_end_the_first_are_read() -> None:
    pages: list[object] = []

    def answer(method: str, message: dict):
        if message.get("method") != "tools/list":
            return handshake(message)
        pages.append(message)
        tool = {"name": f"t{len(pages)}", "inputSchema": {"type": "object"}}
        return json_answer(message, result={"tools": [tool], "nextCursor": "more"})

    async with serving(answer) as url, running(url=url) as one:
        assert len(one.tools) == len(pages) == 10
        [rest] = [offer for offer in one.standing.offers if offer.left_out]
        assert (rest.name, rest.left_out) == ("…", "stands for what comes after 10 pages")
