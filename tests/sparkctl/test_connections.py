import socket

import grpc
import pytest

from spark.agent.v1.agent_service_pb2 import EndSessionRequest, GetInterruptRequest
from sparkctl import connections
from sparkctl.connections import addresses, agent_service
from sparkctl.failures import CallFailed
from tests.sparkctl.scripted import Broken


def test_the_addresses_come_from_the_environment_or_are_the_usual_ones():
    assert addresses({}) == connections.Addresses("127.0.0.1:50051", "127.0.0.1:50050")
    assert addresses({"SPARK_AGENT_ADDRESS": "dns:///a:1", "SPARK_GATEWAY_ADDRESS": "b:2"}) == (
        connections.Addresses("dns:///a:1", "b:2")
    )


async def test_a_service_that_is_not_there_is_named_with_its_address_and_how_to_start_it():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        async with agent_service(address) as agent:
            with pytest.raises(CallFailed) as failed:
                await agent.ask(agent.stub.EndSession, EndSessionRequest())
    how = "start it with `sparkctl up`, or set SPARK_AGENT_ADDRESS"
    assert str(failed.value) == f"cannot reach the agent service at {address}: {how}"


async def test_an_rpc_that_the_service_does_not_have_is_an_error_in_words(scripted, agent):
    with pytest.raises(CallFailed, match=r"the agent service at .* answered UNIMPLEMENTED"):
        await agent.ask(agent.stub.GetInterrupt, GetInterruptRequest())


async def test_what_stays_unavailable_is_given_up_after_some_repetitions(scripted, agent):
    scripted.agent.failures = [Broken(text="try again", reason="UNAVAILABLE")] * 10
    with pytest.raises(CallFailed, match=r"^try again \(UNAVAILABLE\)$") as failed:
        await agent.ask_again(agent.stub.CreateSession, EndSessionRequest())

    assert failed.value.code is grpc.StatusCode.UNAVAILABLE
    assert len(scripted.agent.created) == 1 + connections.REPEATS


def test_the_waits_before_repetitions_grow_to_some_seconds():
    waits = connections.backoff()
    first = [next(waits) for _ in range(20)]

    assert first[0] < 0.3
    assert 3 < first[-1] < 7
