"""`peers`: a wake beside the same of others, on the same PostgreSQL.

They are libraries, whose sender speaks to the database itself. A post goes through a gateway and a service.
"""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count

from benchmarks.bench import Bench
from benchmarks.figures import Figure, Sample, compare
from benchmarks.peers import Sending, dbos_peer, pgqueuer_peer, procrastinate_peer
from benchmarks.processes import running
from benchmarks.services import services
from benchmarks.wake import wake

WAKE = "wake beside a peer: post to delivered"
LIMIT = "as above; a peer has no service in between, and no transcript"

_PEERS: dict[str, Callable[[str], Sending]] = {
    "DBOS, send to recv": dbos_peer.sending,
    "PgQueuer, enqueue to start": pgqueuer_peer.sending,
    "Procrastinate, defer to start": procrastinate_peer.sending,
}


async def figures(bench: Bench) -> list[Figure]:
    size, found = bench.size(pairs=20), []
    async with services(bench, "peers") as ours:
        for name, sending in _PEERS.items():
            sleeping = iter(await ours.new_sessions(size.samples))
            async with _peer(bench, sending) as peer:
                blocks = await compare(size, wake(ours, sleeping, replica=0), peer)
            found.append(Figure(WAKE, name, None, blocks, LIMIT))
    return found


@asynccontextmanager
async def _peer(bench: Bench, sending: Callable[[str], Sending]) -> AsyncIterator[Sample]:
    module = sending.__module__
    database_url = await bench.new_database(module)
    texts = map(str, count())
    async with running(bench.directory, module, database_url) as worker, sending(database_url) as send:

        async def sample() -> float:
            text = next(texts)
            began = time.perf_counter()
            await send(text)
            said = await worker.line()
            seconds = time.perf_counter() - began
            assert said == text, f"{module} said {said!r}"
            return seconds

        yield sample
