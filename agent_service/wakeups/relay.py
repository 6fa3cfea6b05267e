"""Hints between the replicas of a database, by NOTIFY and LISTEN, off the path of every commit.

What a connection takes with it when it is lost, the poll makes good. Where LISTEN cannot be had, which a
pooler of transactions only pretends to give, everything of other replicas waits for the poll.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from uuid import UUID, uuid4

import structlog

from agent_service.domain import SessionId
from agent_service.store.database import Database
from agent_service.store.servers import Own
from agent_service.wakeups.hints import payloads, read
from agent_service.wakeups.local import Wakeups

CHANNEL = "spark_hints"
_NOTIFY = "SELECT pg_notify($1, payload) FROM unnest($2::text[]) AS payload"
_STATEMENT_SECONDS = 5.0
_LAST_HINTS_SECONDS = 1.0
# Sessions that a notifier without a connection remembers.
MAX_GATHERED = 100_000
# So many beats of its own replica a listener may miss.
_SILENT_BEATS = 3
_FIRST_PAUSE_SECONDS, _MAX_PAUSE_SECONDS = 0.05, 30.0
# A connection that lasted so long was a good one: the next trouble is new trouble.
_LASTING_SECONDS = 60.0

_log = structlog.get_logger(__name__)


@asynccontextmanager
async def relaying(
    database: Database, wakeups: Wakeups, stopping: asyncio.Event, beat_seconds: float = 5
) -> AsyncIterator[None]:
    """Carry hints to and from other replicas while inside, the last ones too if a second is enough for them.

    `stopping` is set as soon as this replica takes no more sessions.
    """
    origin = uuid4()
    notifier = Notifier(origin, stopping, beat_seconds)
    listener = Listener(origin, wakeups, beat_seconds)
    wakeups.forward_to(notifier.gather)
    async with asyncio.TaskGroup() as tasks:
        notifying = tasks.create_task(_keep(database, notifier.serve, "hints not sent"))
        listening = tasks.create_task(_keep(database, listener.serve, "hints not heard"))
        try:
            yield
        finally:
            notifier.finish()
            await asyncio.wait({notifying}, timeout=_LAST_HINTS_SECONDS)
            notifying.cancel()
            listening.cancel()


class Notifier:
    """Sends all hints that have gathered whenever its connection is free, and a beat when there are none."""

    def __init__(self, origin: UUID, stopping: asyncio.Event, beat_seconds: float) -> None:
        self._origin, self._stopping, self._beat_seconds = origin, stopping, beat_seconds
        self._gathered: set[SessionId] = set()
        self._wanted, self._finishing = asyncio.Event(), False

    def gather(self, session_id: SessionId) -> None:
        if len(self._gathered) < MAX_GATHERED:
            self._gathered.add(session_id)
        self._wanted.set()

    def finish(self) -> None:
        """Send what has gathered, and nothing after that."""
        self._finishing = True
        self._wanted.set()

    async def serve(self, connection: Own) -> None:
        """Return after `finish`."""
        # A queue that was full stays full, whoever has read it by now, until somebody looks at it.
        await connection.execute("SELECT pg_notification_queue_usage()")
        # A hint that a crash of the server takes with it is made good by the poll.
        await connection.execute("SET synchronous_commit TO off")
        while self._gathered or not self._finishing:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._beat_seconds):
                    await self._wanted.wait()
            self._wanted.clear()
            await self._send(connection)

    async def _send(self, connection: Own) -> None:
        hinted, self._gathered = self._gathered, set()
        try:
            sent = list(payloads(self._origin, self._stopping.is_set(), hinted))
            await connection.execute(_NOTIFY, CHANNEL, sent)
        except BaseException:
            self._gathered |= hinted
            self._wanted.set()
            raise


class Listener:
    """Passes on the hints of other replicas. Those of its own come back too, which shows that it hears."""

    def __init__(self, origin: UUID, wakeups: Wakeups, beat_seconds: float) -> None:
        self._origin, self._wakeups = origin, wakeups
        self._silence_seconds = _SILENT_BEATS * beat_seconds
        self._news = asyncio.Event()

    async def serve(self, connection: Own) -> None:
        """Raises ConnectionError when the connection is lost or nothing comes by it."""
        connection.add_termination_listener(lambda _: self._news.set())
        await connection.add_listener(CHANNEL, self._hear)
        self._wakeups.scan()
        while not connection.is_closed():
            self._news.clear()
            try:
                async with asyncio.timeout(self._silence_seconds):
                    await self._news.wait()
            except TimeoutError:
                raise ConnectionError("nothing is heard; LISTEN needs a direct connection") from None
        raise ConnectionError("the connection was cut")

    def _hear(self, connection: object, backend: int, channel: str, payload: object) -> None:
        self._news.set()
        hints = read(payload)
        if hints is None or hints.origin == self._origin:
            return
        pass_on = self._wakeups.offer if hints.leaving else self._wakeups.tell
        for session_id in hints.session_ids:
            pass_on(session_id)


async def _keep(database: Database, serve: Callable[[Own], Awaitable[None]], trouble: str) -> None:
    """Serve on one connection after another, until that is done. Trouble is told once, while it lasts."""
    failures = 0
    while True:
        began = time.monotonic()
        try:
            connection = await database.connect(_STATEMENT_SECONDS)
            try:
                return await serve(connection)
            finally:
                connection.terminate()
        except Exception as error:
            # Whatever it is: without hints there is the poll.
            if time.monotonic() - began > _LASTING_SECONDS:
                failures = 0
            if not failures:
                _log.warning(trouble, error=repr(error))
        pause_seconds = min(_MAX_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2 ** min(failures, 16))
        failures += 1
        await asyncio.sleep(pause_seconds * random.uniform(0.5, 1))  # noqa: S311
