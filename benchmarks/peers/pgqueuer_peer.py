"""PgQueuer: from the enqueueing of a job until it starts.

`python -m benchmarks.peers.pgqueuer_peer DATABASE_URL` runs the jobs.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import asyncpg
from pgqueuer import AsyncpgDriver, Job, PgQueuer, Queries

ENTRYPOINT = "wake"


@asynccontextmanager
async def sending(database_url: str) -> AsyncIterator[Callable[[str], Awaitable[object]]]:
    connection = await asyncpg.connect(database_url)
    queries = Queries(AsyncpgDriver(connection))

    async def send(text: str) -> object:
        return await queries.enqueue(ENTRYPOINT, text.encode())

    yield send
    await connection.close()


async def _work(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    await Queries(AsyncpgDriver(connection)).install()
    queuer = PgQueuer.from_asyncpg_connection(connection)

    @queuer.entrypoint(ENTRYPOINT)
    async def wake(job: Job) -> None:
        print((job.payload or b"").decode(), flush=True)

    print("listening -", flush=True)
    await queuer.run()


if __name__ == "__main__":
    asyncio.run(_work(sys.argv[1]))
