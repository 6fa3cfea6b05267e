from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from typing import TypeVar

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse, HealthListRequest
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse

from agent_service.rpc.server import SERVICE, serve
from agent_service.settings import SettingsError
from spark.agent.v1.agent_service_pb2 import (
    CreateSessionRequest,
    DepositInterruptsRequest,
    StreamTranscriptRequest,
)
from spark.agent.v1.agent_service_pb2_grpc import AgentServiceServicer, AgentServiceStub
from tests.rpc.conftest import Door, open_door
from tests.support import Store, until, until_blocked

Request = TypeVar("Request")
Response = TypeVar("Response")

SERVING, NOT_SERVING = HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING


def another_channel(door: Door) -> grpc.aio.Channel:
    """A channel that is still open when the door is not."""
    return grpc.aio.insecure_channel(f"127.0.0.1:{door.port}")


async def code_of(call: grpc.aio.UnaryStreamCall[Request, Response]) -> grpc.StatusCode:
    """How a stream ended, once the rest of it is read."""
    with suppress(grpc.aio.AioRpcError):
        while await call.read() is not grpc.aio.EOF:
            pass
    return await call.code()


async def opened_at(listen: str, insecure_listen: bool = False) -> int:
    """The port of a server that listened for a moment."""
    servicer = AgentServiceServicer()  # type: ignore[abstract]
    async with serve(listen, servicer, asyncio.Event(), insecure_listen, drain_seconds=0) as port:
        return port


@pytest.mark.parametrize("service", ["", SERVICE])
async def test_health_says_that_the_server_and_its_service_are_serving(door: Door, service: str) -> None:
    answer = await HealthStub(door.channel).Check(HealthCheckRequest(service=service))
    assert answer.status == SERVING


async def test_health_knows_no_other_service(door: Door) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await HealthStub(door.channel).Check(HealthCheckRequest(service="spark.Other"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    watch = HealthStub(door.channel).Watch(HealthCheckRequest(service="spark.Other"))
    assert (await watch.read()).status == HealthCheckResponse.SERVICE_UNKNOWN


async def test_health_lists_what_it_knows(door: Door) -> None:
    answer = await HealthStub(door.channel).List(HealthListRequest())
    assert {name: health.status for name, health in answer.statuses.items()} == {
        "": SERVING,
        SERVICE: SERVING,
    }


async def test_health_says_so_when_the_shutdown_begins_and_its_watches_end(door: Door) -> None:
    stub = HealthStub(door.channel)
    watch = stub.Watch(HealthCheckRequest(service=SERVICE), timeout=10)
    assert (await watch.read()).status == SERVING
    door.stopping.set()
    assert (await watch.read()).status == NOT_SERVING
    assert await watch.read() is grpc.aio.EOF
    assert (await stub.Check(HealthCheckRequest())).status == NOT_SERVING


async def reflected(door: Door, version: str, request: ServerReflectionRequest) -> ServerReflectionResponse:
    method = door.channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=ServerReflectionRequest.SerializeToString,
        response_deserializer=ServerReflectionResponse.FromString,
    )

    async def requests() -> AsyncIterator[ServerReflectionRequest]:
        yield request

    (response,) = [response async for response in method(requests())]
    return response


@pytest.mark.parametrize("version", ["v1alpha", "v1"])
async def test_reflection_tells_the_services_and_their_files(door: Door, version: str) -> None:
    response = await reflected(door, version, ServerReflectionRequest(list_services=""))
    names = [service.name for service in response.list_services_response.service]
    assert {SERVICE, "grpc.health.v1.Health"} <= set(names)
    for name in names:
        response = await reflected(door, version, ServerReflectionRequest(file_containing_symbol=name))
        files = response.file_descriptor_response.file_descriptor_proto
        assert FileDescriptorProto.FromString(files[0]).service


async def test_malformed_bytes_of_a_client_are_an_invalid_request(door: Door) -> None:
    call = door.channel.unary_unary(f"/{SERVICE}/GetSession")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(b"\xff\xff\xff")
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details() == "the request cannot be decoded"


async def test_malformed_bytes_are_an_invalid_request_to_health_and_reflection_too(door: Door) -> None:
    for method in ("health.v1.Health/Check", "reflection.v1.ServerReflection/ServerReflectionInfo"):
        call = door.channel.stream_stream(f"/grpc.{method}")([b"\xff"])
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert caught.value.details() == "the request cannot be decoded"


async def test_a_server_that_crashed_is_replaced_at_its_port_with_the_watches_cut(door: Door) -> None:
    stub = HealthStub(door.channel)
    watch = stub.Watch(HealthCheckRequest(), timeout=30)
    await watch.read()
    with pytest.raises(grpc.aio.AioRpcError):
        # Of a method whose name is no text grpc's loop dies.
        await door.channel.unary_unary(b"/spark.\xff/Get")(b"")
    assert await code_of(watch) is grpc.StatusCode.UNAVAILABLE

    async def serving() -> bool:
        try:
            return (await stub.Check(HealthCheckRequest())).status == SERVING
        except grpc.aio.AioRpcError:
            return False

    await until(serving)


async def test_a_request_of_more_than_4_mib_is_refused(door: Door) -> None:
    request = CreateSessionRequest(request_id="r" * 5_000_000)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await door.stub.CreateSession(request)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_port_0_finds_a_port() -> None:
    assert await opened_at("127.0.0.1:0") > 0


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "127.9.9.9:0", "localhost:0"])
async def test_loopback_needs_no_permission(listen: str) -> None:
    assert await opened_at(listen)


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0", "192.0.2.1:0", "spark.example:0"])
async def test_listening_beyond_loopback_needs_to_be_asked_for(listen: str) -> None:
    with pytest.raises(SettingsError, match="SPARK_INSECURE_LISTEN=1"):
        await opened_at(listen)


async def test_listening_beyond_loopback_is_possible() -> None:
    assert await opened_at("0.0.0.0:0", insecure_listen=True)


async def test_a_port_that_is_taken_is_named(door: Door) -> None:
    with pytest.raises(SettingsError, match=f"SPARK_AGENT_LISTEN: .*{door.port}"):
        await opened_at(f"127.0.0.1:{door.port}")


async def test_the_shutdown_does_not_wait_for_streams(store: Store) -> None:
    session_id = await store.session()
    async with AsyncExitStack() as client:
        async with open_door(store, drain_seconds=60) as door:
            channel = await client.enter_async_context(another_channel(door))
            request = StreamTranscriptRequest(session_id=str(session_id))
            transcript = AgentServiceStub(channel).StreamTranscript(request)
            watch = HealthStub(channel).Watch(HealthCheckRequest(), timeout=30)
            await transcript.read()
            await watch.read()
            start = time.monotonic()
        assert time.monotonic() - start < 10
        assert await code_of(transcript) is grpc.StatusCode.UNAVAILABLE
        assert await code_of(watch) is grpc.StatusCode.OK


async def test_a_post_that_is_under_way_is_answered_before_the_server_is_gone(store: Store) -> None:
    session_id = await store.session()
    request = DepositInterruptsRequest()
    posted = request.deposits.add(request_id="r-1")
    posted.interrupt.session_id, posted.interrupt.source = str(session_id), "operator"
    posted.interrupt.nudge.text = "Look north."

    async with store.own_connection() as holder, AsyncExitStack() as client:
        transaction = holder.transaction()
        await transaction.start()
        await holder.execute("SELECT FROM sessions WHERE session_id = $1 FOR UPDATE", session_id)

        async def let_go_after(stopping: asyncio.Event) -> None:
            await stopping.wait()
            await transaction.rollback()

        async with open_door(store, drain_seconds=60) as door:
            stub = AgentServiceStub(await client.enter_async_context(another_channel(door)))
            call = asyncio.ensure_future(stub.DepositInterrupts(request))
            await until_blocked(store)
            letting_go = asyncio.create_task(let_go_after(door.stopping))
        await letting_go
        response = await call
    assert response.results[0].interrupt.nudge.text == "Look north."


async def test_after_the_shutdown_nobody_listens(store: Store) -> None:
    async with open_door(store) as door:
        port = door.port
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await HealthStub(channel).Check(HealthCheckRequest(), timeout=5)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
