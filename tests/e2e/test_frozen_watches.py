"""Watches at the gateway go on when the replica that they are at stands still."""

import asyncio
from collections.abc import Awaitable, Callable

import grpc

from spark.agent.v1.agent_service_pb2 import CreateSessionRequest, PauseSessionRequest
from spark.agent.v1.agent_service_pb2_grpc import AgentServiceStub
from spark.agent.v1.interrupt_pb2 import (
    INTERRUPT_STATE_CANCELLED,
    INTERRUPT_STATE_PENDING,
    Interrupt,
    InterruptState,
    Nudge,
)
from spark.agent.v1.session_pb2 import SESSION_MODE_ON_INTERRUPT, Session, SessionConfig
from spark.gateway.v1.gateway_service_pb2 import (
    CancelInterruptRequest,
    PostInterruptRequest,
    WatchInterruptRequest,
)
from spark.gateway.v1.gateway_service_pb2_grpc import GatewayServiceStub
from tests.conftest import Postgres
from tests.e2e.databases import new_database
from tests.e2e.processes import running
from tests.support import until

# So many that the gateway, which takes its replicas in turn, has some at each, when they are opened before
# one stands still and when they are opened after.
WATCHES = 4
# A replica that stands still is found out in less than half of it.
PATIENCE_SECONDS = 60


async def paused_session(agent: AgentServiceStub) -> str:
    """A session in which whatever is posted waits."""
    config = SessionConfig(model="demo", mode=SESSION_MODE_ON_INTERRUPT)
    created = await agent.CreateSession(CreateSessionRequest(session=Session(goal="Sleep.", config=config)))
    await agent.PauseSession(PauseSessionRequest(session_id=created.session.session_id))
    return created.session.session_id


async def test_a_replica_that_stands_still_holds_up_no_watch(postgres: Postgres) -> None:
    url = await new_database(postgres)
    async with (
        running("agent_service", SPARK_DATABASE_URL=url) as well,
        running("agent_service", SPARK_DATABASE_URL=url) as frozen,
        running("gateway", SPARK_AGENT_ADDRESS=f"ipv4:{well.address},{frozen.address}") as door,
        grpc.aio.insecure_channel(well.address) as agent_channel,
        grpc.aio.insecure_channel(door.address) as channel,
        asyncio.TaskGroup() as tasks,
    ):
        gateway = GatewayServiceStub(channel)
        session_id = await paused_session(AgentServiceStub(agent_channel))
        shown: dict[str, list[InterruptState]] = {}

        async def watch(interrupt_id: str) -> None:
            async for response in gateway.WatchInterrupt(WatchInterruptRequest(interrupt_id=interrupt_id)):
                shown.setdefault(interrupt_id, []).append(response.interrupt.state)

        async def post_and_watch() -> None:
            for _ in range(WATCHES):
                nudge = Interrupt(session_id=session_id, source="operator", nudge=Nudge(text="Wake up."))
                response = await gateway.PostInterrupt(PostInterruptRequest(interrupt=nudge))
                tasks.create_task(watch(response.interrupt.interrupt_id))

        def are_shown(count: int, *states: InterruptState) -> Callable[[], Awaitable[bool]]:
            async def so() -> bool:
                return list(shown.values()) == [list(states)] * count

            return so

        await post_and_watch()
        await until(are_shown(WATCHES, INTERRUPT_STATE_PENDING))
        frozen.freeze()
        await post_and_watch()
        await until(are_shown(2 * WATCHES, INTERRUPT_STATE_PENDING))
        for interrupt_id in shown:
            await gateway.CancelInterrupt(CancelInterruptRequest(interrupt_id=interrupt_id))
        ended = are_shown(2 * WATCHES, INTERRUPT_STATE_PENDING, INTERRUPT_STATE_CANCELLED)
        await until(ended, seconds=PATIENCE_SECONDS)
        frozen.thaw()
