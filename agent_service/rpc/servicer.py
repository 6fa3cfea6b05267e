"""The agent service: each method checks, calls the store, converts and answers."""

# ruff: noqa: N802 (the names of the methods are the contract's)

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from uuid import UUID

import grpc
import structlog
from google.rpc.status_pb2 import Status

from agent_service.domain import Deposit as CheckedDeposit
from agent_service.domain import Json, ModelCheck, SessionId
from agent_service.errors import SparkError, Unavailable
from agent_service.rpc.convert import fields
from agent_service.rpc.convert.event import message_proto
from agent_service.rpc.convert.interrupt import deposit, interrupt_proto, interrupt_states
from agent_service.rpc.convert.model import model_check_proto
from agent_service.rpc.convert.page import MAX_BYTES, Listing
from agent_service.rpc.convert.session import (
    SessionChecks,
    labels,
    new_session,
    reading_proto,
    session_states,
)
from agent_service.rpc.convert.tool import tool_set_proto
from agent_service.rpc.convert.update import session_change
from agent_service.rpc.pulls import SAID_HERE
from agent_service.rpc.status import internal_error, status_of
from agent_service.rpc.streams import LiveStreams
from agent_service.rpc.tail import Hearing
from agent_service.settings import Limits
from agent_service.store.deposits import Deposited, Deposits
from agent_service.store.interrupts import Interrupts
from agent_service.store.sessions import Sessions
from agent_service.store.streams import Streams
from agent_service.tools import Toolbox
from spark.agent.v1.agent_service_pb2 import (
    CancelInterruptRequest,
    CancelInterruptResponse,
    CheckModelRequest,
    CheckModelResponse,
    CreateSessionRequest,
    CreateSessionResponse,
    Deposit,
    DepositError,
    DepositInterruptsRequest,
    DepositInterruptsResponse,
    DepositResult,
    EndSessionRequest,
    EndSessionResponse,
    GetInterruptRequest,
    GetInterruptResponse,
    GetSessionRequest,
    GetSessionResponse,
    ListInterruptsRequest,
    ListInterruptsResponse,
    ListMessagesRequest,
    ListMessagesResponse,
    ListSessionsRequest,
    ListSessionsResponse,
    ListToolsRequest,
    ListToolsResponse,
    PauseSessionRequest,
    PauseSessionResponse,
    ResumeSessionRequest,
    ResumeSessionResponse,
    StreamTranscriptRequest,
    StreamTranscriptResponse,
    UpdateSessionRequest,
    UpdateSessionResponse,
    WatchInterruptRequest,
    WatchInterruptResponse,
)
from spark.agent.v1.agent_service_pb2_grpc import AgentServiceServicer

MAX_DEPOSITS = 500
# Checking so many takes a few milliseconds, in which nothing else of the replica gets on.
CHECKED_AT_ONCE = 250


class AgentService(AgentServiceServicer):
    """To be served behind the StatusInterceptor, which turns what is raised into a status and closes the
    generators that the streaming methods return."""

    def __init__(
        self,
        sessions: Sessions,
        deposits: Deposits,
        interrupts: Interrupts,
        streams: Streams,
        live_streams: LiveStreams,
        limits: Limits,
        known_models: tuple[str, ...],
        toolbox: Toolbox,
        check_model: Callable[[str], Awaitable[ModelCheck]],
    ) -> None:
        """The first known model is the one of a session that names none. Of a model of another name
        `check_model` raises ConfigNotFound."""
        self._sessions, self._deposits, self._interrupts = sessions, deposits, interrupts
        self._streams, self._live_streams, self._limits = streams, live_streams, limits
        self._checks = SessionChecks(limits, known_models, toolbox.names)
        self._toolbox, self._default_model, self._check_model = toolbox, known_models[0], check_model
        self._log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

    async def CreateSession(self, request: CreateSessionRequest, context: object) -> CreateSessionResponse:
        new = new_session(request, self._checks)
        return CreateSessionResponse(session=reading_proto(await self._sessions.create(new)))

    async def GetSession(self, request: GetSessionRequest, context: object) -> GetSessionResponse:
        session_id = fields.session_id("session_id", request.session_id)
        return GetSessionResponse(session=reading_proto(await self._sessions.get(session_id)))

    async def ListSessions(self, request: ListSessionsRequest, context: object) -> ListSessionsResponse:
        states, with_labels = session_states("states", request.states), labels("labels", request.labels)
        filters: Json = [sorted(state.value for state in states), with_labels]
        listing = Listing(
            "ListSessions", filters, request.page_size, request.page_token, last_place=2**128 - 1
        )
        before = SessionId(UUID(int=listing.after)) if listing.after else None
        found = await self._sessions.page(listing.limit, before, states, with_labels)
        shown, token = listing.page(found, reading_proto, lambda last: last.session.session_id.int)
        return ListSessionsResponse(sessions=shown, next_page_token=token)

    async def UpdateSession(self, request: UpdateSessionRequest, context: object) -> UpdateSessionResponse:
        session_id = fields.session_id("session.session_id", request.session.session_id)
        change = session_change(request, self._checks)
        return UpdateSessionResponse(session=reading_proto(await self._sessions.update(session_id, change)))

    async def PauseSession(self, request: PauseSessionRequest, context: object) -> PauseSessionResponse:
        session_id = fields.session_id("session_id", request.session_id)
        return PauseSessionResponse(session=reading_proto(await self._sessions.pause(session_id)))

    async def ResumeSession(self, request: ResumeSessionRequest, context: object) -> ResumeSessionResponse:
        session_id = fields.session_id("session_id", request.session_id)
        return ResumeSessionResponse(session=reading_proto(await self._sessions.resume(session_id)))

    async def EndSession(self, request: EndSessionRequest, context: object) -> EndSessionResponse:
        session_id = fields.session_id("session_id", request.session_id)
        return EndSessionResponse(session=reading_proto(await self._sessions.end(session_id)))

    async def ListMessages(self, request: ListMessagesRequest, context: object) -> ListMessagesResponse:
        session_id = fields.session_id("session_id", request.session_id)
        listing = Listing("ListMessages", str(session_id), request.page_size, request.page_token)
        found = await self._streams.messages(session_id, listing.after, listing.limit, MAX_BYTES)
        shown, token = listing.page(found, message_proto, lambda last: last.position)
        return ListMessagesResponse(messages=shown, next_page_token=token)

    def StreamTranscript(
        self,
        request: StreamTranscriptRequest,
        context: "grpc.aio.ServicerContext[StreamTranscriptRequest, StreamTranscriptResponse]",
    ) -> AsyncGenerator[StreamTranscriptResponse, None]:
        session_id = fields.session_id("session_id", request.session_id)
        after_revision = fields.not_negative("after_revision", request.after_revision)
        said_here = SAID_HERE in tuple(context.invocation_metadata() or ())
        hearing = Hearing.HERE if said_here else Hearing.EVERYWHERE
        return self._live_streams.transcript(
            session_id, after_revision, hearing if request.include_deltas else Hearing.NOTHING
        )

    async def DepositInterrupts(
        self, request: DepositInterruptsRequest, context: object
    ) -> DepositInterruptsResponse:
        if len(request.deposits) > MAX_DEPOSITS:
            raise fields.invalid("deposits", f"has more than {MAX_DEPOSITS} deposits")
        response, outcomes = DepositInterruptsResponse(), list[Deposited | Exception]()
        async with asyncio.TaskGroup() as tasks:
            coming = []
            for first in range(0, len(request.deposits), CHECKED_AT_ONCE):
                part = request.deposits[first : first + CHECKED_AT_ONCE]
                coming.append((part, tasks.create_task(self._deposit(part))))
                # While this one is committed the next one is checked, and others have their turn in between.
                await asyncio.sleep(0)
            for part, deposited in coming:
                of_part = await deposited
                outcomes += of_part
                for item, outcome in zip(part, of_part, strict=True):
                    self._tell(item, outcome, response.results.add())
        if outcomes and all(isinstance(outcome, Unavailable) for outcome in outcomes):
            # As a whole, a call is repeated by whoever repeats calls.
            raise Unavailable(str(outcomes[0]))
        return response

    async def GetInterrupt(self, request: GetInterruptRequest, context: object) -> GetInterruptResponse:
        interrupt_id = fields.interrupt_id("interrupt_id", request.interrupt_id)
        return GetInterruptResponse(interrupt=interrupt_proto(await self._streams.interrupt(interrupt_id)))

    async def ListInterrupts(self, request: ListInterruptsRequest, context: object) -> ListInterruptsResponse:
        session_id = fields.session_id("session_id", request.session_id)
        states = interrupt_states("states", request.states)
        filters: Json = [str(session_id), sorted(state.value for state in states)]
        listing = Listing("ListInterrupts", filters, request.page_size, request.page_token)
        found = await self._interrupts.page(session_id, listing.after, listing.limit, states)
        shown, token = listing.page(found, interrupt_proto, lambda last: last.posted.revision)
        return ListInterruptsResponse(interrupts=shown, next_page_token=token)

    async def CancelInterrupt(
        self, request: CancelInterruptRequest, context: object
    ) -> CancelInterruptResponse:
        interrupt_id = fields.interrupt_id("interrupt_id", request.interrupt_id)
        cancelled = await self._interrupts.cancel(interrupt_id)
        return CancelInterruptResponse(interrupt=interrupt_proto(cancelled))

    def WatchInterrupt(
        self, request: WatchInterruptRequest, context: object
    ) -> AsyncGenerator[WatchInterruptResponse, None]:
        interrupt_id = fields.interrupt_id("interrupt_id", request.interrupt_id)
        return self._live_streams.interrupt(interrupt_id)

    async def ListTools(self, request: ListToolsRequest, context: object) -> ListToolsResponse:
        return ListToolsResponse(tool_sets=map(tool_set_proto, self._toolbox.standings))

    async def CheckModel(self, request: CheckModelRequest, context: object) -> CheckModelResponse:
        check = await self._check_model(fields.line("model", request.model) or self._default_model)
        return CheckModelResponse(model_check=model_check_proto(check))

    async def _deposit(self, items: Sequence[Deposit]) -> list[Deposited | Exception]:
        """What becomes of each of several."""
        checked = [self._check(item) for item in items]
        deposits = [one for one in checked if not isinstance(one, Exception)]
        in_order = iter(await self._deposits.deposit_all(deposits))
        return [one if isinstance(one, Exception) else next(in_order) for one in checked]

    def _check(self, item: Deposit) -> CheckedDeposit | Exception:
        """One item of a batch, which fails alone."""
        try:
            return deposit(item, self._limits)
        except Exception as error:
            return error

    def _tell(self, item: Deposit, outcome: Deposited | Exception, result: DepositResult) -> None:
        match outcome:
            case Deposited(interrupt, duplicate):
                result.interrupt.CopyFrom(interrupt_proto(interrupt, item.interrupt.notification.data))
                result.duplicate = duplicate
            case SparkError():
                result.error.CopyFrom(_failed(status_of(outcome)))
            case _:
                self._log.error("deposit failed", exc_info=outcome)
                result.error.CopyFrom(_failed(internal_error()))


def _failed(status: Status) -> DepositError:
    return DepositError(code=status.code, message=status.message, details=status.details)
