"""Reading and cancelling, which the gateway passes on, over a real channel to a server that plays the agent
service."""

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc.status_pb2 import Status

from gateway.agent_client import DEFAULT_DEADLINE_SECONDS
from spark.agent.v1 import agent_service_pb2 as agent_pb
from spark.agent.v1.interrupt_pb2 import INTERRUPT_STATE_PENDING, INTERRUPT_STATE_SEEN, Interrupt
from spark.gateway.v1 import gateway_service_pb2 as pb
from tests.gateway.running_gateway import caller_of, calling, gateway_to
from tests.gateway.scripted_agent import ScriptedAgent
from tests.gateway.statuses import info, raw_details

LISTING = {
    "session_id": "s1",
    "states": [INTERRUPT_STATE_PENDING, INTERRUPT_STATE_SEEN],
    "page_size": 7,
    "page_token": "next",
}
# A method, and a request by its fields, which are the same at both doors.
CALLS = [
    pytest.param("GetInterrupt", {"interrupt_id": "i1"}, id="get"),
    pytest.param("CancelInterrupt", {"interrupt_id": "i1"}, id="cancel"),
    pytest.param("ListInterrupts", LISTING, id="list"),
]
every_call = pytest.mark.parametrize(("method", "fields"), CALLS)


def request(package, method: str, fields: dict[str, object]) -> Message:
    return getattr(package, f"{method}Request")(**fields)


@every_call
async def test_a_request_is_forwarded_as_it_came(method, fields):
    script = ScriptedAgent()
    async with caller_of(script) as caller:
        await getattr(caller.gateway, method)(request(pb, method, fields))

    assert script.asked == [request(agent_pb, method, fields)]


@pytest.mark.parametrize("method", ["GetInterrupt", "CancelInterrupt"])
async def test_an_interrupt_is_answered_as_it_came(method):
    script = ScriptedAgent()
    newer = Interrupt(interrupt_id="i1", revision=7).SerializeToString() + b"\xfa\x07\x03new"
    script.interrupt = Interrupt.FromString(newer)
    async with caller_of(script) as caller:
        response = await getattr(caller.gateway, method)(request(pb, method, {"interrupt_id": "i1"}))

    assert response.interrupt.SerializeToString() == newer


async def test_a_page_is_answered_as_it_came():
    script = ScriptedAgent()
    script.page.interrupts.add(interrupt_id="i1")
    script.page.interrupts.add(interrupt_id="i2")
    script.page.next_page_token = "next"
    async with caller_of(script) as caller:
        response = await caller.gateway.ListInterrupts(pb.ListInterruptsRequest(session_id="s1"))

    assert response.interrupts == script.page.interrupts
    assert response.next_page_token == "next"


@every_call
async def test_a_refusal_is_passed_on_byte_for_byte(method, fields):
    details = Status(code=9, message="no longer pending").SerializeToString() + b"\xfa\x07\x03new"
    script = ScriptedAgent()
    script.before = lambda context: context.abort(
        grpc.StatusCode.FAILED_PRECONDITION, "no longer pending", (("grpc-status-details-bin", details),)
    )
    async with caller_of(script) as caller:
        with pytest.raises(grpc.aio.AioRpcError) as told:
            await getattr(caller.gateway, method)(request(pb, method, fields))

    assert told.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert told.value.details() == "no longer pending"
    assert raw_details(told.value) == details


@every_call
async def test_a_call_has_the_deadline_of_its_caller_or_one_of_the_gateways(method, fields):
    script = ScriptedAgent()
    async with caller_of(script) as caller:
        call = getattr(caller.gateway, method)
        await call(request(pb, method, fields), timeout=60)
        await call(request(pb, method, fields))

    assert script.seconds_left == pytest.approx([60, DEFAULT_DEADLINE_SECONDS], abs=2)


@every_call
async def test_a_call_is_repeated_when_a_replica_is_unavailable(method, fields):
    script = ScriptedAgent()

    async def unavailable_once(context):
        if len(script.asked) == 1:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "restarting")

    script.before = unavailable_once
    async with caller_of(script) as caller:
        await getattr(caller.gateway, method)(request(pb, method, fields))

    assert len(script.asked) == 2


@every_call
async def test_without_an_agent_service_a_call_is_unavailable(method, fields):
    async with gateway_to("127.0.0.1:1") as address, calling(address) as caller:
        with pytest.raises(grpc.aio.AioRpcError) as told:
            await getattr(caller.gateway, method)(request(pb, method, fields))

    assert told.value.code() is grpc.StatusCode.UNAVAILABLE
    assert info(told.value).reason == "UNAVAILABLE"
