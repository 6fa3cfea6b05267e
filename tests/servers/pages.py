"""A web server with a few pages."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager


@asynccontextmanager
async def page_server(pages: Mapping[str, str]) -> AsyncIterator[str]:
    """Serve HTML by path, and give the URL. There is nothing else, and no robots.txt."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readuntil(b"\r\n\r\n")).decode().split()[1]
        status, page = ("200 OK", pages[path]) if path in pages else ("404 Not Found", "")
        head = f"HTTP/1.1 {status}\r\ncontent-type: text/html\r\ncontent-length: {len(page.encode())}\r\n"
        writer.write(f"{head}connection: close\r\n\r\n{page}".encode())
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
