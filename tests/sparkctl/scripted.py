"""A gRPC server that plays the parts of both services: it records what it gets and answers as it is told."""

# ruff: noqa: N802 (the names of the methods are the contract's)

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from spark.agent.v1 import agent_service_pb2 as agent_pb
from spark.agent.v1.agent_service_pb2_grpc import AgentServiceServicer, add_AgentServiceServicer_to_server
from spark.agent.v1.event_pb2 import Event
from spark.agent.v1.interrupt_pb2 import Interrupt
from spark.agent.v1.message_pb2 import Message
from spark.agent.v1.model_pb2 import ModelCheck
from spark.agent.v1.session_pb2 import Session
from spark.agent.v1.tool_pb2 import ToolSet
from spark.gateway.v1 import gateway_service_pb2 as gateway_pb
from spark.gateway.v1.gateway_service_pb2_grpc import (
    GatewayServiceServicer,
    add_GatewayServiceServicer_to_server,
)
from tests.sparkctl.events import INTERRUPT, SESSION, at, nudge

PAGE_SIZE = 2


@dataclass(frozen=True)
class Broken:
    """The end of a stream, or of a call, by an error. Without a reason it is the transport's."""

    code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE
    text: str = "going down"
    reason: str = ""

    async def abort(self, context: grpc.aio.ServicerContext) -> None:
        status = Status(code=self.code.value[0], message=self.text)
        if self.reason:
            status.details.add().Pack(ErrorInfo(reason=self.reason, domain="spark"))
        await context.abort_with_status(rpc_status.to_status(status))


class Synced:
    """The notice that everything up to the opening of a stream was sent."""


class Forever:
    """A stream that stays open."""


@dataclass
class ScriptedAgent(AgentServiceServicer):
    """Streams: for each opening of a stream, what it brings. The last one is brought again and again."""

    sessions: list[Session] = field(default_factory=list)
    interrupts: list[Interrupt] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    listed: list[agent_pb.ListInterruptsRequest] = field(default_factory=list)
    streams: list[Sequence[Event | Broken | Synced | Forever]] = field(default_factory=list)
    created: list[agent_pb.CreateSessionRequest] = field(default_factory=list)
    updated: list[agent_pb.UpdateSessionRequest] = field(default_factory=list)
    opened: list[agent_pb.StreamTranscriptRequest] = field(default_factory=list)
    failures: list[Broken] = field(default_factory=list)
    tool_sets: list[ToolSet] = field(default_factory=list)
    checks: dict[str, ModelCheck] = field(default_factory=dict)

    async def CreateSession(self, request, context):
        self.created.append(request)
        if self.failures:
            await self.failures.pop(0).abort(context)
        session = Session(session_id=SESSION)
        session.MergeFrom(request.session)
        return agent_pb.CreateSessionResponse(session=session)

    async def ListSessions(self, request, context):
        page, more = _page(self.sessions, request)
        return agent_pb.ListSessionsResponse(sessions=page, next_page_token=more)

    async def GetSession(self, request, context):
        (session,) = (one for one in self.sessions if one.session_id == request.session_id)
        return agent_pb.GetSessionResponse(session=session)

    async def ListInterrupts(self, request, context):
        self.listed.append(request)
        kept = [one for one in self.interrupts if not request.states or one.state in request.states]
        page, more = _page(kept, request)
        return agent_pb.ListInterruptsResponse(interrupts=page, next_page_token=more)

    async def ListTools(self, request, context):
        if self.failures:
            await self.failures.pop(0).abort(context)
        return agent_pb.ListToolsResponse(tool_sets=self.tool_sets)

    async def CheckModel(self, request, context):
        return agent_pb.CheckModelResponse(model_check=self.checks[request.model])

    async def ListMessages(self, request, context):
        page, more = _page(self.messages, request)
        return agent_pb.ListMessagesResponse(messages=page, next_page_token=more)

    async def UpdateSession(self, request, context):
        self.updated.append(request)
        if self.failures:
            await self.failures.pop(0).abort(context)
        return agent_pb.UpdateSessionResponse(session=await self._changed(request.session, context, "ACTIVE"))

    async def PauseSession(self, request, context):
        return agent_pb.PauseSessionResponse(session=await self._changed(request, context, "PAUSED"))

    async def ResumeSession(self, request, context):
        return agent_pb.ResumeSessionResponse(session=await self._changed(request, context, "ACTIVE"))

    async def EndSession(self, request, context):
        return agent_pb.EndSessionResponse(session=await self._changed(request, context, "ENDED"))

    async def _changed(self, request, context, state):
        if request.session_id not in [session.session_id for session in self.sessions]:
            text = f"session {request.session_id} does not exist"
            await Broken(grpc.StatusCode.NOT_FOUND, text, "SESSION_NOT_FOUND").abort(context)
        return Session(
            session_id=request.session_id, state=f"SESSION_STATE_{state}", activity="ACTIVITY_QUEUED"
        )

    async def StreamTranscript(self, request, context):
        copy = agent_pb.StreamTranscriptRequest()
        copy.CopyFrom(request)
        self.opened.append(copy)
        revision = request.after_revision
        for piece in self.streams.pop(0) if len(self.streams) > 1 else self.streams[0]:
            if isinstance(piece, Broken):
                await piece.abort(context)
            elif isinstance(piece, Synced):
                yield agent_pb.StreamTranscriptResponse(last_revision=revision, synced=True)
            elif isinstance(piece, Forever):
                await asyncio.Event().wait()
            else:
                revision = piece.revision or revision
                yield agent_pb.StreamTranscriptResponse(events=[piece], last_revision=revision)


@dataclass
class ScriptedGateway(GatewayServiceServicer):
    posted: list[gateway_pb.PostInterruptRequest] = field(default_factory=list)
    states: list[Interrupt | Broken | Forever] = field(default_factory=list)
    failures: list[Broken] = field(default_factory=list)

    async def PostInterrupt(self, request, context):
        self.posted.append(request)
        if self.failures:
            await self.failures.pop(0).abort(context)
        interrupt = Interrupt(interrupt_id=INTERRUPT, state="INTERRUPT_STATE_PENDING", create_time=at(10))
        interrupt.MergeFrom(request.interrupt)
        return gateway_pb.PostInterruptResponse(interrupt=interrupt)

    async def CancelInterrupt(self, request, context):
        if self.failures:
            await self.failures.pop(0).abort(context)
        cancelled = nudge("CANCELLED")
        cancelled.interrupt_id, cancelled.settle_reason = request.interrupt_id, "on request"
        return gateway_pb.CancelInterruptResponse(interrupt=cancelled)

    async def WatchInterrupt(self, request, context):
        while self.states:
            match self.states.pop(0):
                case Broken() as broken:
                    await broken.abort(context)
                case Forever():
                    await asyncio.Event().wait()
                case state:
                    yield gateway_pb.WatchInterruptResponse(interrupt=state)


def _page(whole, request):
    """The page that a request asks for, and the token of the next one."""
    start = int(request.page_token or 0)
    end = start + PAGE_SIZE
    return whole[start:end], str(end) if end < len(whole) else ""


@dataclass(frozen=True)
class Scripted:
    address: str
    agent: ScriptedAgent
    gateway: ScriptedGateway


@asynccontextmanager
async def scripted_services(address: str = "127.0.0.1:0") -> AsyncIterator[Scripted]:
    server = grpc.aio.server()
    scripted_agent, scripted_gateway = ScriptedAgent(), ScriptedGateway()
    add_AgentServiceServicer_to_server(scripted_agent, server)
    add_GatewayServiceServicer_to_server(scripted_gateway, server)
    port = server.add_insecure_port(address)
    await server.start()
    try:
        yield Scripted(f"127.0.0.1:{port}", scripted_agent, scripted_gateway)
    finally:
        await server.stop(grace=None)
