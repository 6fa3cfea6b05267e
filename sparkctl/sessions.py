"""Sessions from the outside: create, find, list, update, pause, resume, end."""

from collections.abc import AsyncGenerator
from datetime import datetime
from uuid import UUID, uuid4

from rich.table import Table
from rich.text import Text

from spark.agent.v1.agent_service_pb2 import (
    CreateSessionRequest,
    EndSessionRequest,
    ListSessionsRequest,
    PauseSessionRequest,
    ResumeSessionRequest,
    UpdateSessionRequest,
)
from spark.agent.v1.session_pb2 import Activity, Session, SessionState
from sparkctl.connections import AgentService
from sparkctl.failures import UsageFailed
from sparkctl.words import age, brief, word

_PAGE_SIZE = 200
_SHORTEST_ID = 8


async def create(agent: AgentService, session: Session) -> Session:
    request = CreateSessionRequest(session=session, request_id=str(uuid4()))
    return (await agent.ask_again(agent.stub.CreateSession, request)).session


async def update(agent: AgentService, session_id: str, change: UpdateSessionRequest) -> Session:
    """Make the change, which is made for any session, to this one. Raises UsageFailed if it is empty."""
    if not change.update_mask.paths:
        raise UsageFailed("nothing is to be changed: `sparkctl update --help` lists the options")
    request = UpdateSessionRequest(session=change.session, update_mask=change.update_mask)
    request.session.session_id = session_id
    return (await agent.ask_again(agent.stub.UpdateSession, request)).session


async def pause(agent: AgentService, session_id: str) -> Session:
    request = PauseSessionRequest(session_id=session_id)
    return (await agent.ask_again(agent.stub.PauseSession, request)).session


async def resume(agent: AgentService, session_id: str) -> Session:
    request = ResumeSessionRequest(session_id=session_id)
    return (await agent.ask_again(agent.stub.ResumeSession, request)).session


async def end(agent: AgentService, session_id: str) -> Session:
    return (await agent.ask_again(agent.stub.EndSession, EndSessionRequest(session_id=session_id))).session


async def listed(agent: AgentService, filters: ListSessionsRequest) -> AsyncGenerator[Session]:
    """All sessions that pass the filters, newest first."""
    request = ListSessionsRequest(page_size=_PAGE_SIZE)
    request.MergeFrom(filters)
    async for page in agent.pages(agent.stub.ListSessions, request):
        for session in page.sessions:
            yield session


async def find(agent: AgentService, reference: str) -> str:
    """The id of the session that a person means by an id, the beginning of an id, or a display name.

    A whole id is not looked up. Sessions that have ended are meant only where no other fits. Raises
    UsageFailed if none fits, or several do.
    """
    if _is_id(reference):
        return reference.lower()
    if not reference.strip():
        # Every id begins with nothing.
        raise UsageFailed("SESSION is empty")
    fitting = [
        session
        async for session in listed(agent, ListSessionsRequest())
        if session.display_name == reference or session.session_id.startswith(reference.lower())
    ]
    working = [session for session in fitting if session.state != SessionState.SESSION_STATE_ENDED]
    match working or fitting:
        case [session]:
            return session.session_id
        case []:
            raise UsageFailed(f"no session has the id, the beginning of an id or the name {reference!r}")
        case several:
            ids = ", ".join(session.session_id for session in several[:4])
            more = ", …" if len(several) > 4 else ""
            raise UsageFailed(f"{reference!r} means {len(several)} sessions: {ids}{more}")


def table(sessions: list[Session], now: datetime) -> Table:
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("SESSION", "NAME", "STATE", "TURN", "PENDING", "AGE"):
        grid.add_column(heading, justify="right" if heading in ("TURN", "PENDING", "AGE") else "left")
    length = _shortest_unique([session.session_id for session in sessions])
    for session in sessions:
        grid.add_row(
            session.session_id[:length],
            Text(brief(session.display_name)),
            state(session),
            str(session.turn),
            str(session.pending_interrupts),
            age(session.create_time, now),
        )
    return grid


def state(session: Session) -> str:
    """What it does at the moment, or why it does nothing any more."""
    if session.state == SessionState.SESSION_STATE_ACTIVE:
        return word(Activity.DESCRIPTOR, session.activity)
    return word(SessionState.DESCRIPTOR, session.state)


def _shortest_unique(ids: list[str]) -> int:
    """How many characters tell the ids apart. The first ones of a UUIDv7 are its time."""
    longest = max((len(session_id) for session_id in ids), default=0)
    for length in range(_SHORTEST_ID, longest):
        if len({session_id[:length] for session_id in ids}) == len(ids):
            return length
    return longest


def _is_id(reference: str) -> bool:
    try:
        return str(UUID(reference)) == reference.lower()
    except ValueError:
        return False
