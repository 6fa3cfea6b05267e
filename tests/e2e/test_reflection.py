"""What somebody finds out who knows nothing but an address."""

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckResponse
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse

from tests.e2e.client import AGENT, GATEWAY, HEALTH, Client, Program, programs
from tests.e2e.conftest import Spark
from tests.e2e.sessions import create

# The messages of v1 are those of v1alpha under another name.
VERSIONS = ["grpc.reflection.v1", "grpc.reflection.v1alpha"]


@pytest.mark.parametrize("version", VERSIONS)
async def test_both_versions_of_reflection_list_the_services(spark: Spark, version: str) -> None:
    for door in (spark.agent, spark.gateway):
        async with grpc.aio.insecure_channel(door.address) as channel:
            call = channel.stream_stream(
                f"/{version}.ServerReflection/ServerReflectionInfo",
                request_serializer=ServerReflectionRequest.SerializeToString,
                response_deserializer=ServerReflectionResponse.FromString,
            )
            [answer] = [one async for one in call(iter([ServerReflectionRequest(list_services="")]))]
        listed = {service.name for service in answer.list_services_response.service}
        assert {door.service, HEALTH} <= listed
        assert not {AGENT, GATEWAY} - {door.service} & listed


@pytest.mark.parametrize("program", programs(), ids=lambda program: type(program).__name__)
async def test_a_client_needs_nothing_but_reflection(spark: Spark, program: Program) -> None:
    client = Client(program)
    agent, gateway = client.agent(spark.agent.address), client.gateway(spark.gateway.address)
    session_id = await create(agent, "Be quiet.", model="demo", mode="SESSION_MODE_ON_INTERRUPT")
    refused = await gateway.refusal("PostInterrupt", interrupt={"session_id": session_id})
    async with agent.stream("StreamTranscript", session_id=session_id) as stream:
        await stream.until(lambda responses: responses[-1:] and responses[-1].synced)
        ended = (await agent.call("EndSession", session_id=session_id)).session
        end = await stream.end()

    assert (refused.code, refused.reason, refused.fields) == (
        "INVALID_ARGUMENT",
        "INVALID_FIELD",
        ["interrupt.source"],
    )
    assert stream.responses[-1].last_revision == ended.revision
    assert end is None


async def test_health_says_serving_of_the_server_and_of_its_service(spark: Spark) -> None:
    for door in (spark.agent, spark.gateway):
        health = Client(door.program).health(door.address)
        for service in ("", door.service):
            answer = await health.call("Check", service=service)
            assert answer.status == HealthCheckResponse.SERVING
