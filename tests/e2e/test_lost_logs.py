"""Services whose logs cannot be written serve on."""

import os

import grpc
import pytest

from spark.agent.v1.agent_service_pb2 import CreateSessionRequest
from spark.agent.v1.agent_service_pb2_grpc import AgentServiceStub
from spark.agent.v1.interrupt_pb2 import INTERRUPT_STATE_SEEN, Interrupt, Nudge
from spark.agent.v1.session_pb2 import SESSION_MODE_ON_INTERRUPT, Session, SessionConfig
from spark.gateway.v1.gateway_service_pb2 import (
    CancelInterruptRequest,
    PostInterruptRequest,
    WatchInterruptRequest,
)
from spark.gateway.v1.gateway_service_pb2_grpc import GatewayServiceStub
from tests.e2e.processes import running


async def test_with_a_full_disk_for_the_logs_everything_else_goes_on(database_url: str) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    async with (
        running("agent_service", stderr=full, SPARK_DATABASE_URL=database_url) as agent,
        running("gateway", stderr=full, SPARK_AGENT_ADDRESS=agent.address) as door,
        grpc.aio.insecure_channel(agent.address) as agent_channel,
        grpc.aio.insecure_channel(door.address) as channel,
    ):
        os.close(full)
        config = SessionConfig(model="demo", mode=SESSION_MODE_ON_INTERRUPT)
        create = CreateSessionRequest(session=Session(goal="Keep the lamp.", config=config))
        session = (await AgentServiceStub(agent_channel).CreateSession(create)).session
        gateway = GatewayServiceStub(channel)
        nudge = Interrupt(session_id=session.session_id, source="operator", nudge=Nudge(text="Look north."))
        posted = (await gateway.PostInterrupt(PostInterruptRequest(interrupt=nudge))).interrupt
        watch = gateway.WatchInterrupt(WatchInterruptRequest(interrupt_id=posted.interrupt_id))
        assert [told.interrupt.state async for told in watch][-1] == INTERRUPT_STATE_SEEN
        with pytest.raises(grpc.aio.AioRpcError) as told:
            await gateway.CancelInterrupt(CancelInterruptRequest(interrupt_id=posted.interrupt_id))
        assert told.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert (await door.stop(), await agent.stop()) == (0, 0)
