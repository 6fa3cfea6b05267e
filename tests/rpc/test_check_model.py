import pytest
from grpc import StatusCode
from grpc.aio import AioRpcError

from spark.agent.v1.agent_service_pb2 import CheckModelRequest
from spark.agent.v1.model_pb2 import (
    EVIDENCE_RENDERED,
    EVIDENCE_UNSPECIFIED,
    PLACEMENT_SYSTEM,
    PLACEMENT_UNSPECIFIED,
    PLACEMENT_USER,
    TROUBLE_REFUSED,
    TROUBLE_UNSPECIFIED,
)
from tests.rpc.conftest import CHECKED, Door


async def test_what_was_found_out_about_a_model_is_told_whole(door: Door) -> None:
    check = (await door.stub.CheckModel(CheckModelRequest(model="local"))).model_check
    assert (check.model, check.served_model, check.failure) == ("local", "qwen3", "")
    assert (check.placement, check.system_role) == (PLACEMENT_USER, False)
    assert check.evidence == EVIDENCE_RENDERED
    refused, chosen = check.trials
    assert (refused.placement, refused.trouble) == (PLACEMENT_SYSTEM, TROUBLE_REFUSED)
    assert (refused.where, refused.detail) == ("after a tool's response", "400: no")
    assert (chosen.placement, chosen.trouble) == (PLACEMENT_USER, TROUBLE_UNSPECIFIED)
    assert list(check.remarks) == ["Nobody looked at the reasoning."]
    assert check.check_time.ToDatetime() == CHECKED.replace(tzinfo=None)


async def test_a_server_that_does_not_answer_is_no_error(door: Door) -> None:
    check = (await door.stub.CheckModel(CheckModelRequest(model="demo"))).model_check
    assert check.failure == "Nobody answers."
    assert (check.placement, check.evidence) == (PLACEMENT_UNSPECIFIED, EVIDENCE_UNSPECIFIED)


async def test_without_a_name_the_model_of_sessions_without_one_is_checked(door: Door) -> None:
    assert (await door.stub.CheckModel(CheckModelRequest())).model_check.model == "local"


async def test_a_model_that_is_not_configured_is_refused_with_the_names_of_those_that_are(door: Door) -> None:
    with pytest.raises(AioRpcError) as raised:
        await door.stub.CheckModel(CheckModelRequest(model="unheard"))
    assert raised.value.code() is StatusCode.FAILED_PRECONDITION
    assert "local" in raised.value.details()
