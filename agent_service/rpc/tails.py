"""Keeps the tails of the sessions that are watched: reads what is new, at each hint or poll, once for all."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager

from agent_service.domain import Event, SessionId, TextDelta
from agent_service.errors import Unavailable
from agent_service.rpc import ghosts
from agent_service.rpc.convert.event import delta_proto, event_proto
from agent_service.rpc.convert.page import MAX_BYTES
from agent_service.rpc.shared import Shared, background
from agent_service.rpc.tail import Hearing, Item, Tail, is_end
from agent_service.store.streams import Streams
from agent_service.wakeups import Wakeups, Watch

# The most events that are read at once.
PAGE_EVENTS = 100


class Tails:
    """Each lasts from its first watcher to its last."""

    def __init__(
        self, streams: Streams, wakeups: Wakeups, stopping: asyncio.Event, poll_seconds: float
    ) -> None:
        self._streams, self._wakeups, self._stopping = streams, wakeups, stopping
        self._poll_seconds = poll_seconds
        self._tails = Shared[SessionId, Tail]()

    def of(self, session_id: SessionId, revision: int) -> AbstractAsyncContextManager[Tail]:
        """The tail of a session that has reached a revision. Who waits at it is woken at each poll.

        It fails with Unavailable when the server is about to stop, and with whatever a read failed with.
        """
        return self._tails.of(session_id, lambda: self._kept(session_id, revision))

    @asynccontextmanager
    async def _kept(self, session_id: SessionId, revision: int) -> AsyncIterator[Tail]:
        """Has almost a page of the past too: those who come back soon need none of their own."""
        with self._wakeups.watch(session_id) as watch, _hinted_by(self._stopping, watch):
            tail = Tail(session_id, max(0, revision - PAGE_EVENTS + 1), watch)
            async with background(self._keep(tail)):
                yield tail

    async def _keep(self, tail: Tail) -> None:
        try:
            await self._follow(tail)
        except Exception as error:
            self._tails.forget(tail.session_id, tail)
            tail.fail(error)

    async def _follow(self, tail: Tail) -> None:
        """Read until the session has ended: nothing follows that. The first watcher's hint starts it."""
        void, more = ghosts.NOTHING, False
        while True:
            news = more or await tail.watch.wait(self._poll_seconds)
            if self._stopping.is_set():
                raise Unavailable("the server is shutting down; open the stream again")
            # Taken before the page is read, so that the page has the start of the round they belong to.
            heard = tail.watch.take_deltas()
            page = await self._page(tail) if news else []
            void = ghosts.void_after(page, void)
            facts = [Item(event_proto(event)) for event in page]
            more = len(page) == PAGE_EVENTS or sum(item.event.ByteSize() for item in facts) > MAX_BYTES
            tail.add(facts if more else [*facts, *map(_said, ghosts.alive(heard, void))])
            if facts and is_end(facts[-1].event):
                return

    async def _page(self, tail: Tail) -> Sequence[Event]:
        return await self._streams.page(tail.session_id, tail.revision, PAGE_EVENTS, MAX_BYTES)


@contextmanager
def _hinted_by(stopping: asyncio.Event, watch: Watch) -> Iterator[None]:
    stopped = asyncio.ensure_future(stopping.wait())
    stopped.add_done_callback(lambda _: watch.hint())
    try:
        yield
    finally:
        stopped.cancel()


def _said(delta: TextDelta) -> Item:
    return Item(delta_proto(delta), Hearing.EVERYWHERE if delta.elsewhere else Hearing.HERE)
