"""What the streaming methods send: pages by cursor up to the tail of the session, then what is added to it.

A stream keeps a cursor and no events: one whose client reads slowly only lags.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager

from agent_service.domain import MessageId, Session, SessionId, SessionState
from agent_service.errors import RevisionOutOfRange
from agent_service.rpc.convert.event import event_proto
from agent_service.rpc.convert.interrupt import interrupt_proto
from agent_service.rpc.convert.page import MAX_BYTES, cut
from agent_service.rpc.pulls import Pulls
from agent_service.rpc.tail import Hearing, Tail, is_end
from agent_service.rpc.tails import PAGE_EVENTS, Tails
from agent_service.store.sessions import Sessions
from agent_service.store.streams import Streams
from spark.agent.v1.agent_service_pb2 import StreamTranscriptResponse, WatchInterruptResponse
from spark.agent.v1.event_pb2 import Event

# Of silence, after which a stream says that it is alive.
NOTICE_SECONDS = 15.0


class LiveStreams:
    """The streams of this process. Each ends with Unavailable when the server is about to stop."""

    def __init__(
        self,
        sessions: Sessions,
        streams: Streams,
        tails: Tails,
        pulls: Pulls,
        notice_seconds: float = NOTICE_SECONDS,
    ) -> None:
        """Notices are sent at the polls of the tails."""
        self._sessions, self._streams, self._tails, self._pulls = sessions, streams, tails, pulls
        self._notice_seconds = notice_seconds

    async def transcript(
        self, session_id: SessionId, after_revision: int, hearing: Hearing
    ) -> AsyncGenerator[StreamTranscriptResponse, None]:
        """The facts after a revision, until the session's end. Raises SessionNotFound, RevisionOutOfRange."""
        time, opening = asyncio.get_running_loop().time, (await self._sessions.get(session_id)).session
        progress = _Progress(opening, after_revision)
        async with self._follow(session_id, opening.revision, after_revision, hearing) as follower:
            notice_time = time() + self._notice_seconds
            events: Sequence[Event] = ()
            while True:
                responses = progress.responses(events)
                if not responses and time() >= notice_time:
                    responses = [progress.notice()]
                for response in responses:
                    yield response
                    notice_time = time() + self._notice_seconds
                if progress.ended:
                    return
                events = await follower.next()

    async def interrupt(self, interrupt_id: MessageId) -> AsyncGenerator[WatchInterruptResponse, None]:
        """An interrupt now and after each change, until its state is final. Raises InterruptNotFound."""
        session_id = (await self._streams.interrupt(interrupt_id)).session_id
        newest, shown = await self._streams.newest_revision(session_id), None
        async with self._follow(session_id, newest, newest, Hearing.NOTHING) as follower:
            while True:
                interrupt = await self._streams.interrupt(interrupt_id)
                if interrupt.state is not shown:
                    shown = interrupt.state
                    yield WatchInterruptResponse(interrupt=interrupt_proto(interrupt))
                if interrupt.state.final:
                    return
                while not _tell_of(await follower.next(), str(interrupt_id)):
                    continue

    @asynccontextmanager
    async def _follow(
        self, session_id: SessionId, newest: int, after_revision: int, hearing: Hearing
    ) -> AsyncIterator["_Follower"]:
        async with self._tails.of(session_id, newest) as tail, self._pulls.into(tail, hearing):
            if tail.revision < newest:
                tail.watch.hint()
                await tail.reach(after_revision)
            yield _Follower(tail, self._streams, after_revision, hearing)


class _Follower:
    """One watcher's way through the events of a session."""

    def __init__(self, tail: Tail, streams: Streams, revision: int, hearing: Hearing) -> None:
        self._tail, self._streams, self._hearing = tail, streams, hearing
        self._revision, self._place = revision, -1

    async def next(self) -> Sequence[Event]:
        """The events that follow. None where only what is not for this watcher was added, or nothing by the
        next poll. Raises what the tail failed with."""
        tail = self._tail
        tail.check()
        await tail.wait(self._place)
        tail.check()
        place = self._place if self._place >= tail.first else tail.place(self._revision)
        if place is None:
            events = await self._page()
        else:
            events, self._place = tail.since(place, self._hearing), tail.end
        self._revision = max([self._revision, *(event.revision for event in events)])
        return events

    async def _page(self) -> Sequence[Event]:
        """What the tail has no more."""
        limit = min(PAGE_EVENTS, self._tail.start - self._revision)
        page = await self._streams.page(self._tail.session_id, self._revision, limit, MAX_BYTES)
        return [event_proto(event) for event in page]


class _Progress:
    """How far one stream has come."""

    def __init__(self, opening: Session, after_revision: int) -> None:
        """`opening` is the session when the stream was opened. Raises RevisionOutOfRange."""
        if after_revision > opening.revision:
            raise RevisionOutOfRange(after_revision, opening.revision)
        self.revision = after_revision
        # Nothing follows the end of a session, so one who has it all will get no event that says so.
        self.ended = opening.state is SessionState.ENDED and after_revision == opening.revision
        self._opening_revision = opening.revision
        self._synced = False

    def responses(self, events: Iterable[Event]) -> list[StreamTranscriptResponse]:
        """What to send of the events that follow."""
        responses = []
        for piece in cut(events):
            self.revision = max([self.revision, *(event.revision for event in piece)])
            responses.append(StreamTranscriptResponse(events=piece, last_revision=self.revision))
            self.ended = self.ended or any(is_end(event) for event in piece)
        if not self._synced and self.revision >= self._opening_revision:
            self._synced = True
            responses.append(StreamTranscriptResponse(last_revision=self.revision, synced=True))
        return responses

    def notice(self) -> StreamTranscriptResponse:
        """Says that the stream is alive."""
        return StreamTranscriptResponse(last_revision=self.revision)


def _tell_of(events: Iterable[Event], interrupt_id: str) -> bool:
    return any(
        interrupt_id
        in (
            event.interrupt_delivered.interrupt.interrupt_id,
            event.interrupt_seen.interrupt.interrupt_id,
            event.interrupt_settled.interrupt.interrupt_id,
        )
        for event in events
    )
