"""Procrastinate: from the deferring of a job until it starts.

`python -m benchmarks.peers.procrastinate_peer DATABASE_URL` runs the jobs.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from procrastinate import App, PsycopgConnector

TASK = "wake"


@asynccontextmanager
async def sending(database_url: str) -> AsyncIterator[Callable[[str], Awaitable[object]]]:
    app = App(connector=PsycopgConnector(conninfo=database_url))
    async with app.open_async():
        task = app.configure_task(TASK)

        async def send(text: str) -> object:
            return await task.defer_async(text=text)

        yield send


async def _work(database_url: str) -> None:
    app = App(connector=PsycopgConnector(conninfo=database_url))

    @app.task(name=TASK)
    async def wake(text: str) -> None:
        print(text, flush=True)

    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        print("listening -", flush=True)
        await app.run_worker_async()


if __name__ == "__main__":
    asyncio.run(_work(sys.argv[1]))
