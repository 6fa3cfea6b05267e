"""What the streaming methods send: pages by cursor, then what is new, at each hint or poll.

A stream registers for hints before it reads, so that nothing falls in between. It keeps a cursor and no
events: one whose client reads slowly only lags.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager

from agent_service.domain import (
    Event,
    MessageId,
    Session,
    SessionChanged,
    SessionId,
    SessionState,
    TextDelta,
)
from agent_service.errors import RevisionOutOfRange, Unavailable
from agent_service.rpc import ghosts
from agent_service.rpc.convert.event import delta_proto, event_proto
from agent_service.rpc.convert.interrupt import interrupt_proto
from agent_service.rpc.convert.page import MAX_BYTES, cut
from agent_service.store.sessions import Sessions
from agent_service.store.streams import Streams
from agent_service.wakeups import Wakeups, Watch
from spark.agent.v1.agent_service_pb2 import StreamTranscriptResponse, WatchInterruptResponse

# A slow client holds its page for as long as it lags.
PAGE_EVENTS = 100


class LiveStreams:
    """The streams of this process. Each ends with Unavailable as soon as `stopping` is set."""

    def __init__(
        self,
        sessions: Sessions,
        streams: Streams,
        wakeups: Wakeups,
        stopping: asyncio.Event,
        poll_seconds: float,
        notice_seconds: float = 15,
    ) -> None:
        self._sessions, self._streams, self._wakeups = sessions, streams, wakeups
        self._stopping, self._poll_seconds, self._notice_seconds = stopping, poll_seconds, notice_seconds

    async def transcript(
        self, session_id: SessionId, after_revision: int, include_deltas: bool
    ) -> AsyncGenerator[StreamTranscriptResponse, None]:
        """The facts after a revision, until the session's end. Raises SessionNotFound, RevisionOutOfRange."""
        time = asyncio.get_running_loop().time
        with self._watch(session_id) as watch:
            progress = _Progress((await self._sessions.get(session_id)).session, after_revision)
            notice_time, news = time() + self._notice_seconds, True
            while True:
                # Taken before the page is read, so that the page has the start of the round they belong to.
                heard = watch.take_deltas()
                page = await self._page(session_id, progress.revision) if news else []
                responses = progress.responses(page, heard if include_deltas else ())
                if not responses and time() >= notice_time:
                    responses = [progress.notice()]
                for response in responses:
                    yield response
                    notice_time = time() + self._notice_seconds
                if progress.ended:
                    return
                if progress.caught_up:
                    news = await watch.wait(min(self._poll_seconds, self._notice_seconds))
                self._go_on()

    async def interrupt(self, interrupt_id: MessageId) -> AsyncGenerator[WatchInterruptResponse, None]:
        """An interrupt now and after each change, until its state is final. Raises InterruptNotFound."""
        session_id = (await self._streams.interrupt(interrupt_id)).session_id
        shown = None
        with self._watch(session_id) as watch:
            while True:
                interrupt = await self._streams.interrupt(interrupt_id)
                if interrupt.state is not shown:
                    shown = interrupt.state
                    yield WatchInterruptResponse(interrupt=interrupt_proto(interrupt))
                if interrupt.state.final:
                    return
                while not await watch.wait(self._poll_seconds):
                    continue  # Only text came, of which nothing is shown here.
                self._go_on()

    async def _page(self, session_id: SessionId, after_revision: int) -> list[Event]:
        return await self._streams.page(session_id, after_revision, PAGE_EVENTS, MAX_BYTES)

    @contextmanager
    def _watch(self, session_id: SessionId) -> Iterator[Watch]:
        """A watch that the shutdown wakes too."""
        with self._wakeups.watch(session_id) as watch:
            stopped = asyncio.ensure_future(self._stopping.wait())
            stopped.add_done_callback(lambda _: watch.hint())
            try:
                yield watch
            finally:
                stopped.cancel()

    def _go_on(self) -> None:
        if self._stopping.is_set():
            raise Unavailable("the server is shutting down; open the stream again")


class _Progress:
    """How far one stream has come: what has been sent, and what of it a client may still be shown."""

    def __init__(self, opening: Session, after_revision: int) -> None:
        """`opening` is the session when the stream was opened. Raises RevisionOutOfRange."""
        if after_revision > opening.revision:
            raise RevisionOutOfRange(after_revision, opening.revision)
        self.revision = after_revision
        # Nothing follows the end of a session, so one who has it all will get no event that says so.
        self.ended = opening.state is SessionState.ENDED and after_revision == opening.revision
        self._opening_revision = opening.revision
        self._synced = False
        # Whether the last page had all that there was.
        self.caught_up = False
        self._void = ghosts.NOTHING

    def responses(self, page: Sequence[Event], heard: Sequence[TextDelta]) -> list[StreamTranscriptResponse]:
        """What to send of a page and of what was heard before it was read."""
        self._void = ghosts.void_after(page, self._void)
        responses, page_bytes = [], 0
        for events in cut(map(event_proto, page)):
            self.revision = events[-1].revision
            responses.append(StreamTranscriptResponse(events=events, last_revision=self.revision))
            page_bytes += responses[-1].ByteSize()
        self.caught_up = len(page) < PAGE_EVENTS and page_bytes <= MAX_BYTES
        if not self._synced and self.revision >= self._opening_revision:
            self._synced = True
            responses.append(StreamTranscriptResponse(last_revision=self.revision, synced=True))
        for deltas in cut(map(delta_proto, ghosts.alive(heard if self.caught_up else (), self._void))):
            responses.append(StreamTranscriptResponse(events=deltas, last_revision=self.revision))
        self.ended = self.ended or any(_is_end(event) for event in page)
        return responses

    def notice(self) -> StreamTranscriptResponse:
        """Says that the stream is alive."""
        return StreamTranscriptResponse(last_revision=self.revision)


def _is_end(event: Event) -> bool:
    match event.happening:
        case SessionChanged(session):
            return session.state is SessionState.ENDED
        case _:
            return False
