"""A server behind a URL, which speaks Streamable HTTP."""

import os
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TypeAlias

import anyio
import httpx2
from anyio.streams.memory import MemoryObjectSendStream
from mcp.client._transport import ReadStream, TransportStreams
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.message import SessionMessage

from agent_service.settings import SettingsError
from agent_service.tools.mcp.failures import Broken
from agent_service.tools.mcp.listing import readable
from agent_service.tools.mcp.meter import MAX_MESSAGE_BYTES, Meter

CONNECT_SECONDS = 10.0
GOODBYE_SECONDS = 2.0

Received: TypeAlias = SessionMessage | Exception


@asynccontextmanager
async def http(url: str, headers: Mapping[str, str]) -> AsyncIterator[TransportStreams]:
    """Speak to a server for as long as the context is open, with the headers in every request. Raises Broken,
    or an error of httpx2, at its end.

    No read has a time limit: a tool may be silent for as long as it may run, which others keep an eye on."""
    async with (
        httpx2.AsyncClient(
            timeout=httpx2.Timeout(CONNECT_SECONDS, read=None),
            headers={**headers, "accept-encoding": "identity"},
            event_hooks={"request": [_hurry], "response": [_bound]},
        ) as client,
        streamable_http_client(url, http_client=client, max_sse_event_size=MAX_MESSAGE_BYTES) as streams,
        anyio.create_task_group() as tasks,
    ):
        received, sent = streams
        to_client, incoming = anyio.create_memory_object_stream[Received]()
        tasks.start_soon(_relay, received, to_client)
        yield incoming, sent
        tasks.cancel_scope.cancel()


def headers_of(variables: Mapping[str, str]) -> dict[str, str]:
    """The headers whose values are in variables of the environment. Raises SettingsError."""
    return {name: _value(variable) for name, variable in variables.items()}


def _value(variable: str) -> str:
    value = os.environ.get(variable, "").strip()
    if not value:
        raise SettingsError(f"headers_env: the variable {variable} is not set")
    if not value.isascii() or not value.isprintable():
        raise SettingsError(f"headers_env: the variable {variable} holds what cannot be sent in a header")
    return value


async def _relay(received: ReadStream[Received], to_client: MemoryObjectSendStream[Received]) -> None:
    meter = Meter()
    async with to_client:
        async for message in received:
            meter.count()
            if isinstance(message, SessionMessage):
                meter.heed(message.message)
                message = readable(message)
            try:
                await to_client.send(message)
            except anyio.BrokenResourceError:
                return  # Nobody listens any more.
        if to_client.statistics().open_receive_streams:
            raise Broken("closed the connection")


async def _hurry(request: httpx2.Request) -> None:
    """A server that hangs cannot hold up the end of a connection, at which it is told so."""
    if request.method == "DELETE":
        request.extensions["timeout"] = httpx2.Timeout(GOODBYE_SECONDS).as_dict()


async def _bound(response: httpx2.Response) -> None:
    """Bound what is read at once."""
    if response.headers.get("content-encoding", "identity") != "identity":
        raise Broken("compresses its answers, though it was asked not to")
    assert isinstance(response.stream, httpx2.AsyncByteStream)
    # Of a stream of events each has a limit of its own.
    endless = response.headers.get("content-type", "").lower().startswith("text/event-stream")
    response.stream = _Bounded(response.stream, sys.maxsize if endless else MAX_MESSAGE_BYTES)


class _Bounded(httpx2.AsyncByteStream):
    def __init__(self, stream: httpx2.AsyncByteStream, max_bytes: int) -> None:
        self._stream, self._max_bytes = stream, max_bytes

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        meter, left = Meter(), self._max_bytes
        async for piece in self._stream:
            left -= len(piece)
            if left < 0:
                raise httpx2.StreamError(f"more than {self._max_bytes} bytes")
            meter.weigh(piece)
            yield piece

    async def aclose(self) -> None:
        await self._stream.aclose()
