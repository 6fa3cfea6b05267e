"""Both services with all that the rows speak of, and how to ask them anything."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc.status_pb2 import Status
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from spark.agent.v1.agent_service_pb2 import (
    Deposit,
    DepositInterruptsRequest,
    EndSessionRequest,
    ListInterruptsRequest,
    PauseSessionRequest,
)
from spark.agent.v1.agent_service_pb2_grpc import AgentServiceStub
from spark.gateway.v1.gateway_service_pb2_grpc import GatewayServiceStub
from tests.e2e.bad_input import CANCELLED, CROWDED, FULL, OVER, PAUSED, SUPERSEDED, TOKEN, Way, ways
from tests.e2e.bad_input_posts import nudge
from tests.e2e.bad_input_sessions import create
from tests.e2e.client import AGENT, GATEWAY, Refused
from tests.e2e.databases import Connection, connected
from tests.e2e.processes import PATIENCE_SECONDS, Service, running

_FINGERPRINT = """
SELECT (count(*), sum(revision), sum(outstanding),
        (SELECT count(*) FROM messages), (SELECT count(*) FROM events))::text
FROM sessions"""

_SAY_MUCH = """
WITH said AS (
    INSERT INTO messages (session_id, message_id, type, position, turn, round, text,
                          posted_at, posted_revision)
    SELECT $1, gen_random_uuid(), 'assistant', n, 1, n, repeat('x', $3), now(), n + 1
    FROM generate_series(1, $2::int) n RETURNING *
), told AS (
    INSERT INTO events (session_id, revision, create_time, type, message_id)
    SELECT session_id, posted_revision, posted_at, 'message_appended', message_id FROM said
)
UPDATE sessions SET revision = $2 + 1, next_position = $2 + 1 WHERE session_id = $1"""

Sent = TypeVar("Sent", bound=Message)


@dataclass(frozen=True)
class Spark:
    """The services by name, channels to them, and what stands behind the stand-ins."""

    services: Mapping[str, Service]
    channels: Mapping[str, grpc.aio.Channel]
    database: Connection
    stand_ins: Mapping[str, str]

    @property
    def agent(self) -> AgentServiceStub:
        return AgentServiceStub(self.channels[AGENT])

    @property
    def gateway(self) -> GatewayServiceStub:
        return GatewayServiceStub(self.channels[GATEWAY])

    def addressed(self, request: Sent) -> Sent:
        """The request with real names in it."""
        sent = request.SerializeToString()
        for stand_in, name in self.stand_ins.items():
            sent = sent.replace(stand_in.encode(), name.encode())
        return type(request).FromString(sent)

    def written(self, way: Way, request: Message) -> bytes:
        """The request as it goes this way."""
        sent = self.addressed(request).SerializeToString()
        if not way.in_batch:
            return sent
        batch = GetMessageClass(way.method.input_type)()
        [items] = way.method.input_type.fields
        getattr(batch, items.name).add().MergeFromString(sent)
        return batch.SerializeToString()

    async def call(self, method: str, request: Message) -> Any:
        """The response by the first way. Raises Refused."""
        return await self.ask(ways(method)[0], request)

    async def ask(self, way: Way, request: Message) -> Any:
        """The response, the first one of a stream, or the result of the only item. Raises Refused."""
        response = await self.send(way.door, way.method, self.written(way, request))
        if not way.in_batch:
            return response
        [result] = response.results
        if result.HasField("error"):
            error = result.error
            raise Refused(Status(code=error.code, message=error.message, details=error.details))
        return result

    async def send(self, door: str, method: MethodDescriptor, *sent: bytes, **options: Any) -> Any:
        """The first response, if any, to these messages, of which there should be one. Raises Refused."""
        path = f"/{method.containing_service.full_name}/{method.name}"
        call = self.channels[door].stream_stream(path)(sent, timeout=PATIENCE_SECONDS, **options)
        try:
            answer = await call.read()
        except grpc.aio.AioRpcError as error:
            raise Refused(status_of(error)) from None
        finally:
            call.cancel()
        return None if answer is grpc.aio.EOF else GetMessageClass(method.output_type).FromString(answer)

    async def serving(self) -> bool:
        """Whether both say so."""
        try:
            checks = [
                await HealthStub(channel).Check(HealthCheckRequest(), timeout=PATIENCE_SECONDS)
                for channel in self.channels.values()
            ]
        except grpc.aio.AioRpcError:
            return False
        return {check.status for check in checks} == {HealthCheckResponse.SERVING}

    async def fingerprint(self) -> str:
        """Another one after every write that a caller can cause: each raises a revision."""
        return await self.database.fetchval(_FINGERPRINT)

    @asynccontextmanager
    async def held(self, session: str) -> AsyncIterator[None]:
        """Nobody else gets the session's row."""
        async with self.database.transaction():
            session_id = self.stand_ins[session]
            await self.database.execute("SELECT FROM sessions WHERE session_id = $1 FOR UPDATE", session_id)
            yield

    async def somebody_waits(self) -> bool:
        return bool(await self.database.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))

    async def talkative(self, rows: int, row_bytes: int) -> str:
        """The id of a session that has said so much."""
        session_id = (await self.agent.CreateSession(create())).session.session_id
        await self.database.execute(_SAY_MUCH, session_id, rows, row_bytes)
        return session_id


@asynccontextmanager
async def spark_on(database_url: str) -> AsyncIterator[Spark]:
    async with AsyncExitStack() as stack:
        settings = {"SPARK_DATABASE_URL": database_url, "SPARK_DEMO_PACE": "0"}
        agent = await stack.enter_async_context(running("agent_service", **settings))
        gateway = await stack.enter_async_context(running("gateway", SPARK_AGENT_ADDRESS=agent.address))
        services = {AGENT: agent, GATEWAY: gateway}
        unlimited = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
        channels = {
            name: await stack.enter_async_context(grpc.aio.insecure_channel(service.address, unlimited))
            for name, service in services.items()
        }
        stand_ins = await _prepare(AgentServiceStub(channels[AGENT]))
        database = await stack.enter_async_context(connected(database_url))
        yield Spark(services, channels, database, stand_ins)


async def _prepare(agent: AgentServiceStub) -> dict[str, str]:
    async def session(name: str) -> str:
        created = await agent.CreateSession(create(request_id=name))
        await agent.PauseSession(PauseSessionRequest(session_id=created.session.session_id))
        return created.session.session_id

    async def post(*deposits: Deposit) -> list[str]:
        response = await agent.DepositInterrupts(DepositInterruptsRequest(deposits=deposits))
        return [result.interrupt.interrupt_id for result in response.results]

    paused, over, crowded, full = [await session(name) for name in ("used", "b", "c", "d")]
    [cancelled] = await post(nudge(request_id="used", session_id=over))
    await agent.EndSession(EndSessionRequest(session_id=over))
    await post(*(nudge(session_id=crowded) for _ in range(250)))
    for source in ("user:first", "user:second", "user:third", "user:fourth"):
        await post(*(nudge(session_id=full, source=source) for _ in range(250)))
    superseded, _ = await post(*(nudge(session_id=paused, coalesce_key="new") for _ in range(2)))
    listed = await agent.ListInterrupts(ListInterruptsRequest(session_id=full))
    return {
        PAUSED: paused,
        OVER: over,
        CROWDED: crowded,
        FULL: full,
        CANCELLED: cancelled,
        SUPERSEDED: superseded,
        TOKEN: listed.next_page_token,
    }


def status_of(error: grpc.aio.AioRpcError) -> Status:
    """What its details say, which is also what gRPC says; gRPC alone where there are none."""
    told = Status(code=error.code().value[0], message=error.details())
    details = dict(error.trailing_metadata()).get("grpc-status-details-bin")
    if details is None:
        return told
    status = Status.FromString(details)
    assert (status.code, status.message) == (told.code, told.message)
    return status
