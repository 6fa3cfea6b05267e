"""The newest events of a session in the order in which watchers are shown them, text among the facts.

They are read and converted once for all watchers of a session on this replica.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from enum import IntEnum
from itertools import islice
from types import TracebackType
from typing import NamedTuple

from agent_service.domain import SessionId
from agent_service.rpc.convert.page import MAX_BYTES
from agent_service.wakeups import Watch
from spark.agent.v1.event_pb2 import Event
from spark.agent.v1.session_pb2 import SESSION_STATE_ENDED

# What is kept beside the page that was read last. Whoever is further behind reads pages of its own.
MAX_KEPT = 1000


class Hearing(IntEnum):
    """What somebody hears of the text that models are writing."""

    NOTHING = 0
    # What is said at this replica.
    HERE = 1
    EVERYWHERE = 2


class Item(NamedTuple):
    event: Event
    # Facts are for those who hear nothing, too.
    hearing: Hearing = Hearing.NOTHING


class Tail:
    """Has all facts after the revision `start`, each at a place; places count up from `first` to `end`.

    `watch` is what it hears of the session by: whoever knows of news may hint it.
    """

    def __init__(self, session_id: SessionId, revision: int, watch: Watch) -> None:
        self.session_id, self.watch = session_id, watch
        self.start = self.revision = revision
        self.first = 0
        self._items: deque[Item] = deque()
        self._bytes = 0
        self._news = asyncio.Event()
        self._failure: tuple[Exception, TracebackType | None] | None = None

    @property
    def end(self) -> int:
        return self.first + len(self._items)

    def add(self, items: Sequence[Item]) -> None:
        """Add what comes next, in place of what is too old to be kept beside it."""
        while len(self._items) > MAX_KEPT or self._bytes > MAX_BYTES:
            self._drop()
        for item in items:
            self._items.append(item)
            self._bytes += item.event.ByteSize()
            self.revision = max(self.revision, item.event.revision)
        self._wake()

    def fail(self, error: Exception) -> None:
        """Say that nothing more will come."""
        self._failure = error, error.__traceback__
        self._wake()

    def check(self) -> None:
        """Raises what it failed with."""
        if self._failure:
            error, traceback = self._failure
            raise error.with_traceback(traceback)

    async def reach(self, revision: int) -> None:
        """Wait until it has come so far. Raises what it failed with."""
        while self.revision < revision:
            self.check()
            await self.wait(self.end)

    def place(self, revision: int) -> int | None:
        """Where that starts which follows a fact that was reached; None where some of it is here no more."""
        if revision < self.start:
            return None
        behind = (n for n, item in enumerate(reversed(self._items)) if 0 < item.event.revision <= revision)
        return self.end - next(behind, len(self._items))

    def since(self, place: int, hearing: Hearing) -> list[Event]:
        """What somebody is shown from a place on. No place before the first has anything."""
        newest = islice(reversed(self._items), self.end - place)
        return [item.event for item in newest if item.hearing <= hearing][::-1]

    async def wait(self, place: int) -> None:
        """Wait until something may have come to a place: something was added, or looked for in vain."""
        if place == self.end:
            await self._news.wait()

    def _drop(self) -> None:
        event = self._items.popleft().event
        self.first += 1
        self.start = max(self.start, event.revision)
        self._bytes -= event.ByteSize()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


def is_end(event: Event) -> bool:
    """Whether nothing follows it."""
    return event.session_changed.session.state == SESSION_STATE_ENDED
