"""Services on a database that fails, posters that repeat what was not acknowledged, and the judgement."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import count

import grpc
from google.protobuf.duration_pb2 import Duration

from spark.agent.v1.agent_service_pb2 import CreateSessionRequest
from spark.agent.v1.agent_service_pb2_grpc import AgentServiceStub
from spark.agent.v1.interrupt_pb2 import Interrupt, Nudge
from spark.agent.v1.session_pb2 import SESSION_MODE_ON_INTERRUPT, Session, SessionConfig
from spark.gateway.v1.gateway_service_pb2 import PostInterruptRequest
from spark.gateway.v1.gateway_service_pb2_grpc import GatewayServiceStub
from tests.e2e.databases import connected
from tests.e2e.processes import Service, running
from tests.gateway.statuses import info
from tests.support import until

# All that a caller may be told while the database is away.
_TEXTS = {
    "the database cannot be reached",
    "the database is busy or about to stop",
    "the agent service does not answer; the same request can be sent again",
}

_UNSEEN = "SELECT count(*) FROM messages WHERE type = 'system' AND (seen_at IS NULL OR position IS NULL)"

_KEPT = "SELECT request_id, message_id::text FROM messages WHERE type = 'system'"

_FACTS = """
SELECT message_id::text, array_agg(type ORDER BY revision) AS types FROM events
WHERE message_id IN (SELECT message_id FROM messages WHERE type = 'system') GROUP BY message_id"""

_HOLES = """
SELECT session_id FROM sessions s LEFT JOIN events e USING (session_id)
GROUP BY session_id HAVING count(*) <> max(s.revision) OR max(e.revision) <> max(s.revision)"""

_DEADLOCKS = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"

_UNFIT = "SELECT state, state_reason FROM sessions WHERE state <> 'active' OR outstanding <> 0"


@dataclass
class Posters:
    """Each posts one interrupt after the other to its session, and each until it is acknowledged."""

    gateway: GatewayServiceStub
    session_ids: Sequence[str]
    # By request id the interrupt that was acknowledged.
    acknowledged: dict[str, str] = field(default_factory=dict)
    refusals: list[grpc.aio.AioRpcError] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=count)
    _enough: bool = False

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """Leaving lets each end with the post it is at."""
        self._enough = False
        async with asyncio.TaskGroup() as tasks:
            for session_id in self.session_ids:
                tasks.create_task(self._post(session_id))
            try:
                yield
            finally:
                self._enough = True

    async def until_acknowledged(self, more: int) -> None:
        """Wait for so many acknowledgements from now on."""
        goal = len(self.acknowledged) + more

        async def reached() -> bool:
            return len(self.acknowledged) >= goal

        await until(reached, seconds=60)

    async def until_refused(self, text: str) -> None:
        """Wait until from now on somebody is told so."""
        before = len(self.refusals)

        async def told() -> bool:
            return any(error.details() == text for error in self.refusals[before:])

        await until(told, seconds=60)

    async def _post(self, session_id: str) -> None:
        while not self._enough:
            nudge = Interrupt(session_id=session_id, source="operator", nudge=Nudge(text="Look north."))
            request_id = f"{next(self._numbers)}"
            await self._repeat(PostInterruptRequest(interrupt=nudge, request_id=request_id))

    async def _repeat(self, request: PostInterruptRequest) -> None:
        while True:
            try:
                response = await self.gateway.PostInterrupt(request)
            except grpc.aio.AioRpcError as error:
                self.refusals.append(error)
                await asyncio.sleep(0.02)
            else:
                self.acknowledged[request.request_id] = response.interrupt.interrupt_id
                return

    def check_refusals(self) -> None:
        """Whoever was not acknowledged was told to try again, in words of the contract."""
        assert {error.code() for error in self.refusals} <= {grpc.StatusCode.UNAVAILABLE}
        assert {error.details() for error in self.refusals} <= _TEXTS
        assert {info(error).reason for error in self.refusals} <= {"UNAVAILABLE"}


@dataclass(frozen=True)
class House:
    """Agent services on one database, each behind its own address, and one gateway."""

    agents: Sequence[Service]
    gateway: Service
    posters: Posters

    async def check(self, database_url: str) -> None:
        """Every interrupt that was acknowledged, and no other, is there once, and the agents see them all.
        No service had to be started again."""
        self.posters.check_refusals()
        async with connected(database_url) as database:

            async def all_seen() -> bool:
                return await database.fetchval(_UNSEEN) == 0

            await until(all_seen, seconds=60)
            assert dict(await database.fetch(_KEPT)) == self.posters.acknowledged
            told = {tuple(types) for _, types in await database.fetch(_FACTS)}
            assert told == {("interrupt_posted", "interrupt_delivered", "interrupt_seen")}
            assert await database.fetch(_HOLES) == []
            assert await database.fetch(_UNFIT) == []
            assert await database.fetchval(_DEADLOCKS) == 0
        assert [service.process.returncode for service in (*self.agents, self.gateway)] == [
            None for _ in (*self.agents, self.gateway)
        ]


@asynccontextmanager
async def house(database_url: str, replicas: int = 1, sessions: int = 4) -> AsyncIterator[House]:
    """Services whose leases are short, and sessions that work when something is posted."""
    settings = {
        "SPARK_DATABASE_URL": database_url,
        "SPARK_DEMO_PACE": "0",
        "SPARK_LEASE_SECONDS": "2",
        "SPARK_POLL_SECONDS": "0.2",
        "SPARK_LOG_LEVEL": "warning",
    }
    async with AsyncExitStack() as stack:
        agents = await asyncio.gather(
            *(stack.enter_async_context(running("agent_service", **settings)) for _ in range(replicas))
        )
        addresses = "ipv4:" + ",".join(agent.address for agent in agents)
        gateway = await stack.enter_async_context(
            running("gateway", SPARK_AGENT_ADDRESS=addresses, SPARK_LOG_LEVEL="warning")
        )
        at_agent = await stack.enter_async_context(grpc.aio.insecure_channel(agents[0].address))
        at_gateway = await stack.enter_async_context(grpc.aio.insecure_channel(gateway.address))
        config = SessionConfig(
            mode=SESSION_MODE_ON_INTERRUPT, disable_inner_voice=True, cooldown=Duration(seconds=0)
        )
        create = CreateSessionRequest(session=Session(goal="Keep the lamp.", config=config))
        made = [await AgentServiceStub(at_agent).CreateSession(create) for _ in range(sessions)]
        posters = Posters(GatewayServiceStub(at_gateway), [one.session.session_id for one in made])
        yield House(agents, gateway, posters)
