"""Hints inside a process.

A hint says that a session has a new revision. Watchers of a session wait for its hints, and hear the text
that streams in this process; the dispatcher hears of every session that is for this process to take.
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
    """Carries hints and deltas inside this process, and hints of it to whoever carries them further."""

    def __init__(self) -> None:
        self._watches: dict[SessionId, set[Watch]] = {}
        self._listeners: list[Callable[[SessionId | None], None]] = []
        self._forwards: list[Callable[[SessionId], None]] = []

    def hint(self, session_id: SessionId) -> None:
        """Say, after a commit of this process, that a session has a new revision."""
        # What this process does about it comes first.
        self.offer(session_id)
        for forward in self._forwards:
            forward(session_id)

    def offer(self, session_id: SessionId) -> None:
        """Say that a session has a new revision, and may be due, for this process to take."""
        for listener in self._listeners:
            listener(session_id)
        self.tell(session_id)

    def tell(self, session_id: SessionId) -> None:
        """Say that a session has a new revision, of which another process takes care."""
        for watch in self._watches.get(session_id, ()):
            watch.hint()

    def scan(self) -> None:
        """Say that hints about any session may have been lost."""
        for listener in self._listeners:
            listener(None)
        for watches in self._watches.values():
            for watch in watches:
                watch.hint()

    def say(self, session_id: SessionId, delta: TextDelta) -> None:
        """Show a piece of text to whoever watches."""
        for watch in self._watches.get(session_id, ()):
            watch.hear(delta)

    def listen(self, listener: Callable[[SessionId | None], None]) -> None:
        """Call the listener when a session may be due for this process to take; None may be any. It must not
        block."""
        self._listeners.append(listener)

    def forward_to(self, forward: Callable[[SessionId], None]) -> None:
        """Hand on the hints of this process. It must not block."""
        self._forwards.append(forward)

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
