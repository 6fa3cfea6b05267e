"""Hints that something happened. The database is the truth: a poll stands behind every wait.

A hint says that a session reached a revision. Watchers of a session wait for its hints, and hear the text
that streams in this process; the dispatcher hears of every session.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from agent_service.domain import SessionId, TextDelta

# A watcher that reads more slowly than a model writes loses deltas, never events.
MAX_BUFFERED_DELTAS = 1000


class Watch:
    """One watcher's view of a session."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._hinted = False
        self._last_news = asyncio.get_running_loop().time()
        self._deltas: deque[TextDelta] = deque(maxlen=MAX_BUFFERED_DELTAS)

    def hint(self) -> None:
        self._hinted = True
        self._event.set()

    def hear(self, delta: TextDelta) -> None:
        self._deltas.append(delta)
        self._event.set()

    async def wait(self, poll_seconds: float) -> bool:
        """Return at the next hint or delta, and at the latest when the poll is due.

        True where the database may have news: at a hint, and so long after the last True, whatever text came
        meanwhile. False where only text came: the facts that it belongs to were hinted before it was said.
        """
        clock, poll_time = asyncio.get_running_loop().time, self._last_news + poll_seconds
        with suppress(TimeoutError):
            async with asyncio.timeout_at(poll_time):
                await self._event.wait()
        news = self._hinted or clock() >= poll_time
        self._hinted = False
        self._event.clear()
        if news:
            self._last_news = clock()
        return news

    def take_deltas(self) -> list[TextDelta]:
        taken = list(self._deltas)
        self._deltas.clear()
        return taken


class Wakeups:
    """Carries hints and deltas inside this process."""

    def __init__(self) -> None:
        self._watches: dict[SessionId, set[Watch]] = {}
        self._listeners: list[Callable[[SessionId], None]] = []

    def hint(self, session_id: SessionId) -> None:
        """Say, after a commit, that a session has a new revision."""
        for listener in self._listeners:
            listener(session_id)
        for watch in self._watches.get(session_id, ()):
            watch.hint()

    def say(self, session_id: SessionId, delta: TextDelta) -> None:
        """Show a piece of text to whoever watches."""
        for watch in self._watches.get(session_id, ()):
            watch.hear(delta)

    def listen(self, listener: Callable[[SessionId], None]) -> None:
        """Call the listener at every hint. It must not block."""
        self._listeners.append(listener)

    @contextmanager
    def watch(self, session_id: SessionId) -> Iterator[Watch]:
        """Register for a session. Register first and read then, or a hint may be missed."""
        watch = Watch()
        self._watches.setdefault(session_id, set()).add(watch)
        try:
            yield watch
        finally:
            watches = self._watches[session_id]
            watches.discard(watch)
            if not watches:
                del self._watches[session_id]
