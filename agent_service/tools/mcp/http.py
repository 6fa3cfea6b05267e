"""A server behind a URL, which speaks Streamable HTTP."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeAlias

import anyio
import httpx2
from anyio.streams.memory import MemoryObjectSendStream
from mcp.client._transport import ReadStream, TransportStreams
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.message import SessionMessage

from agent_service.tools.mcp.failures import Broken
from agent_service.tools.mcp.meter import MAX_MESSAGE_BYTES, Meter

CONNECT_SECONDS = 10.0
GOODBYE_SECONDS = 2.0

Received: TypeAlias = SessionMessage | Exception


@asynccontextmanager
async def http(url: str) -> AsyncIterator[TransportStreams]:
    """Speak to a server for as long as the context is open. Raises Broken, or an error of httpx2, at its end.

    No read has a time limit: a tool may be silent for as long as it may run, which others keep an eye on."""
    async with (
        httpx2.AsyncClient(
            timeout=httpx2.Timeout(CONNECT_SECONDS, read=None),
            headers={"accept-encoding": "identity"},
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


async def _relay(received: ReadStream[Received], to_client: MemoryObjectSendStream[Received]) -> None:
    meter = Meter()
    async with to_client:
        async for message in received:
            meter.count()
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
    """Bound what is read at once. The events of a stream have a limit of their own."""
    if response.headers.get("content-encoding", "identity") != "identity":
        raise Broken("compresses its answers, though it was asked not to")
    if not response.headers.get("content-type", "").lower().startswith("text/event-stream"):
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        response.stream = _Bounded(response.stream)


class _Bounded(httpx2.AsyncByteStream):
    def __init__(self, stream: httpx2.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        left = MAX_MESSAGE_BYTES
        async for piece in self._stream:
            left -= len(piece)
            if left < 0:
                raise httpx2.StreamError(f"more than {MAX_MESSAGE_BYTES} bytes")
            yield piece

    async def aclose(self) -> None:
        await self._stream.aclose()
