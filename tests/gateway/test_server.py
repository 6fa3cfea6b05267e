import asyncio
import time
from contextlib import AsyncExitStack

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from gateway.agent_client import connect
from gateway.server import SERVICE, serving
from gateway.settings import Settings, SettingsError
from spark.agent.v1.interrupt_pb2 import Interrupt, Nudge
from spark.gateway.v1 import gateway_service_pb2 as pb
from tests.gateway.conditions import PATIENCE_SECONDS, until
from tests.gateway.running_gateway import NOT_SERVING, SERVING, calling, gateway_to
from tests.gateway.scripted_agent import ScriptedAgent, running
from tests.gateway.statuses import info

POST = pb.PostInterruptRequest(interrupt=Interrupt(source="operator", nudge=Nudge(text="stop")))


@pytest.mark.parametrize("service", ["", SERVICE])
async def test_the_gateway_is_serving_while_the_agent_service_is(service):
    async with (
        running(ScriptedAgent()) as agent,
        gateway_to(agent.address) as address,
        calling(address) as caller,
        caller.watching_health(service) as health,
    ):
        await health.until(SERVING)
        await agent.set_serving(False)
        await health.until(NOT_SERVING)
        await agent.set_serving(True)
        await health.until(SERVING)


async def test_the_gateway_is_not_serving_before_it_has_an_agent_service():
    async with gateway_to("127.0.0.1:1") as address, calling(address) as caller:
        assert await caller.status() == NOT_SERVING


async def test_health_lists_what_it_knows_and_knows_nothing_else():
    async with gateway_to("127.0.0.1:1") as address, calling(address) as caller:
        listed = await caller.health.List(health_pb2.HealthListRequest())
        other = health_pb2.HealthCheckRequest(service="spark.Other")
        watched = await caller.health.Watch(other).read()
        with pytest.raises(grpc.aio.AioRpcError) as told:
            await caller.health.Check(other)

    assert {name: health.status for name, health in listed.statuses.items()} == {
        "": NOT_SERVING,
        SERVICE: NOT_SERVING,
    }
    assert watched.status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
    assert told.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    "method", ["health.v1.Health/Check", "reflection.v1.ServerReflection/ServerReflectionInfo"]
)
async def test_malformed_bytes_are_an_invalid_argument_to_health_and_reflection_too(method):
    async with gateway_to("127.0.0.1:1") as address, calling(address) as caller:
        with pytest.raises(grpc.aio.AioRpcError) as told:
            await caller.channel.stream_stream(f"/grpc.{method}")([b"\xff"]).read()

    assert told.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert told.value.details() == "the request cannot be decoded"


async def test_a_server_that_crashed_is_replaced_at_its_port_with_the_watches_cut():
    async with (
        running(ScriptedAgent()) as agent,
        gateway_to(agent.address) as address,
        calling(address) as caller,
    ):
        async with caller.watching_health() as health:
            await health.until(SERVING)
            with pytest.raises(grpc.aio.AioRpcError):
                # Of a method whose name is no text gRPC's loop dies.
                await caller.channel.unary_unary(b"/spark.\xff/Get")(b"")
            with pytest.raises(grpc.aio.AioRpcError):
                await health.until(NOT_SERVING)
        async with calling(address) as other:
            check = health_pb2.HealthCheckRequest()
            answer = await other.health.Check(check, wait_for_ready=True, timeout=PATIENCE_SECONDS)

    assert answer.status == SERVING


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_reflection_describes_the_service(version):
    requests = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE),
    ]
    async with gateway_to("127.0.0.1:1") as address, calling(address) as caller:
        reflect = caller.channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            reflection_pb2.ServerReflectionRequest.SerializeToString,
            reflection_pb2.ServerReflectionResponse.FromString,
        )
        listed, described = [response async for response in reflect(iter(requests))]

    assert SERVICE in [service.name for service in listed.list_services_response.service]
    file = FileDescriptorProto.FromString(described.file_descriptor_response.file_descriptor_proto[0])
    assert file.package == "spark.gateway.v1"


async def test_a_post_in_flight_finishes_when_the_gateway_stops():
    script, answer = ScriptedAgent(), asyncio.Event()
    script.before = lambda _: answer.wait()
    async with running(script) as agent, AsyncExitStack() as life:
        address = await life.enter_async_context(gateway_to(agent.address))
        async with calling(address) as caller:
            posted = asyncio.ensure_future(caller.gateway.PostInterrupt(POST))
            async with caller.watching_health() as health:
                await health.until(SERVING)
                await until(lambda: script.calls)
                stopped = asyncio.create_task(life.aclose())
                await health.until(NOT_SERVING)
            answer.set()

            assert (await posted).interrupt.source == "operator"
            await stopped


async def test_a_watch_is_ended_with_unavailable_when_the_gateway_stops_and_does_not_hold_it_up():
    script = ScriptedAgent()
    async with running(script) as agent, AsyncExitStack() as life:
        address = await life.enter_async_context(gateway_to(agent.address, drain_seconds=60))
        async with calling(address) as caller:
            watch = caller.gateway.WatchInterrupt(pb.WatchInterruptRequest(interrupt_id="i1"))
            await until(lambda: script.watched)
            started = time.monotonic()
            await life.aclose()

            with pytest.raises(grpc.aio.AioRpcError) as ended:
                await watch.read()
            assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
            assert info(ended.value).reason == "UNAVAILABLE"
            assert time.monotonic() - started < 30
            await until(lambda: script.watches_ended)


async def test_a_watch_of_health_ends_when_the_gateway_stops_and_does_not_hold_it_up():
    async with AsyncExitStack() as life:
        address = await life.enter_async_context(gateway_to("127.0.0.1:1", drain_seconds=60))
        async with calling(address) as caller:
            watch = caller.health.Watch(health_pb2.HealthCheckRequest())
            await watch.read()
            started = time.monotonic()
            await life.aclose()

            assert await watch.read() is grpc.aio.EOF
            assert await watch.code() is grpc.StatusCode.OK
            assert time.monotonic() - started < 30


async def test_a_call_that_outlasts_the_drain_time_is_cut_off():
    script, never = ScriptedAgent(), asyncio.Event()
    script.before = lambda _: never.wait()
    async with running(script) as agent, AsyncExitStack() as life:
        address = await life.enter_async_context(gateway_to(agent.address, drain_seconds=0.1))
        async with calling(address) as caller:
            posted = asyncio.ensure_future(caller.gateway.PostInterrupt(POST, timeout=600))
            await until(lambda: script.calls)

            await life.aclose()

            with pytest.raises((grpc.aio.AioRpcError, asyncio.CancelledError)):
                await posted


async def test_a_port_that_is_taken_is_named():
    async with gateway_to("127.0.0.1:1") as address, connect("127.0.0.1:1") as agent:
        with pytest.raises(SettingsError, match=f"SPARK_GATEWAY_LISTEN.*{address}"):
            async with serving(Settings(gateway_listen=address), agent):
                pass
