"""Many posts in one call, between a real channel and a server that plays the agent service."""

import grpc
import pytest
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from structlog.testing import capture_logs

from spark.agent.v1.agent_service_pb2 import Deposit, DepositError, DepositResult
from spark.agent.v1.interrupt_pb2 import Interrupt, Nudge
from spark.gateway.v1 import gateway_service_pb2 as pb
from tests.gateway.running_gateway import Caller, caller_of, calling, gateway_to
from tests.gateway.scripted_agent import ScriptedAgent, deposited
from tests.gateway.statuses import info, violations

SESSION = "0199c0de-0000-7000-8000-000000000001"


def post(request_id: str = "", source: str = "operator", text: str = "stop there") -> pb.PostInterruptRequest:
    interrupt = Interrupt(session_id=SESSION, source=source, nudge=Nudge(text=text))
    return pb.PostInterruptRequest(interrupt=interrupt, request_id=request_id)


async def posted(caller: Caller, *posts: pb.PostInterruptRequest) -> list[pb.PostResult]:
    return list(
        (await caller.gateway.BatchPostInterrupts(pb.BatchPostInterruptsRequest(requests=posts))).results
    )


def told(error: pb.PostError) -> ErrorInfo:
    found = ErrorInfo()
    assert any(detail.Unpack(found) for detail in error.details), "the error has no ErrorInfo"
    return found


def refusing_what_ends_with_7(deposit: Deposit) -> DepositResult:
    if not deposit.request_id.endswith("7"):
        return deposited(deposit)
    error = DepositError(code=5, message=f"{deposit.request_id} is refused")
    error.details.add().Pack(ErrorInfo(reason="SESSION_NOT_FOUND", domain="spark"))
    return DepositResult(error=error)


async def test_a_batch_travels_in_one_call_and_has_a_result_for_each_post_in_order():
    script = ScriptedAgent()
    script.answer = refusing_what_ends_with_7
    async with caller_of(script) as caller:
        results = await posted(caller, *(post(f"r{i}") for i in range(20)))

    assert [[one.request_id for one in call.deposits] for call in script.calls] == [
        [f"r{i}" for i in range(20)]
    ]
    assert [result.interrupt.interrupt_id or result.error.message for result in results] == [
        f"r{i} is refused" if i % 10 == 7 else f"of r{i}" for i in range(20)
    ]


async def test_a_post_against_the_policy_fails_alone_and_is_not_forwarded():
    script = ScriptedAgent()
    async with caller_of(script) as caller:
        first, no_source, clock, last = await posted(
            caller, post("a"), post("b", source=""), post("c", source="cron"), post("d")
        )

    assert [one.request_id for one in script.calls[0].deposits] == ["a", "d"]
    assert (first.interrupt.interrupt_id, last.interrupt.interrupt_id) == ("of a", "of d")
    assert (no_source.error.code, told(no_source.error).reason) == (3, "INVALID_FIELD")
    assert (clock.error.code, told(clock.error).reason) == (7, "SOURCE_NOT_ALLOWED")


async def test_the_error_of_a_post_is_the_agent_services_with_all_its_details():
    error = DepositError(code=3, message="interrupt.nudge.text: is required")
    error.details.add().Pack(ErrorInfo(reason="INVALID_FIELD", domain="spark"))
    error.details.add().Pack(BadRequest(field_violations=[BadRequest.FieldViolation(field="x")]))
    script = ScriptedAgent()
    script.answer = lambda _: DepositResult(error=error)
    async with caller_of(script) as caller:
        (result,) = await posted(caller, post("mine"))

    assert (result.error.code, result.error.message) == (error.code, error.message)
    assert list(result.error.details) == list(error.details)


async def test_posts_without_a_request_id_get_one_each_which_their_errors_name():
    script = ScriptedAgent()
    script.answer = lambda _: DepositResult(error=DepositError(code=5, message="no such session"))
    async with caller_of(script) as caller:
        *forwarded, clock = await posted(caller, post(), post(), post(source="cron"))

    chosen = [one.request_id for one in script.calls[0].deposits]
    assert [told(result.error).metadata["request_id"] for result in forwarded] == chosen
    assert len({*chosen, told(clock.error).metadata["request_id"]}) == 3


async def test_a_duplicate_is_told_as_one():
    script = ScriptedAgent()
    script.answer = lambda one: DepositResult(interrupt=one.interrupt, duplicate=one.request_id == "again")
    async with caller_of(script) as caller:
        results = await posted(caller, post("new"), post("again"))

    assert [result.duplicate for result in results] == [False, True]


async def test_the_log_has_one_line_for_a_batch_with_counts_and_no_content():
    script = ScriptedAgent()
    script.answer = lambda one: (
        DepositResult(interrupt=one.interrupt, duplicate=True)
        if one.request_id == "again"
        else refusing_what_ends_with_7(one)
    )
    async with caller_of(script) as caller:
        with capture_logs() as logs:
            await posted(caller, *map(post, ("new", "newer", "again", "r7")), post("c", source="cron"))

    (line,) = (line for line in logs if line["event"].startswith("interrupt"))
    counts = {"posted": 2, "duplicate": 1, "NOT_FOUND": 1, "PERMISSION_DENIED": 1}
    assert line == {"event": "interrupts posted", "log_level": "info", **counts}


async def test_an_agent_service_that_does_not_answer_fails_every_post():
    async with gateway_to("127.0.0.1:1") as address, calling(address) as caller:
        results = await posted(caller, post("a"), post("b"))

    assert [told(result.error).reason for result in results] == ["UNAVAILABLE"] * 2


async def test_the_deadline_of_the_caller_reaches_the_agent_service():
    script = ScriptedAgent()
    async with caller_of(script) as caller:
        await caller.gateway.BatchPostInterrupts(
            pb.BatchPostInterruptsRequest(requests=[post("a")]), timeout=60
        )

    assert script.seconds_left == pytest.approx([60], abs=5)


async def test_an_empty_batch_has_no_results():
    async with caller_of(ScriptedAgent()) as caller:
        assert await posted(caller) == []


@pytest.mark.parametrize(
    "posts",
    [
        pytest.param([post()] * 501, id="501 posts"),
        pytest.param([post(text="x" * 16_000)] * 200, id="more than 3 MiB"),
    ],
)
async def test_a_batch_that_is_too_large_is_refused_whole(posts):
    script = ScriptedAgent()
    async with caller_of(script) as caller:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await posted(caller, *posts)

    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert info(refused.value).reason == "INVALID_FIELD"
    assert violations(refused.value) == ["requests"]
    assert script.calls == []


@pytest.mark.parametrize("text", ["stop", "x" * 6_000])
async def test_a_batch_of_500_is_posted_whole(text):
    async with caller_of(ScriptedAgent()) as caller:
        results = await posted(caller, *(post(f"r{i}", text=text) for i in range(500)))

    assert [result.interrupt.interrupt_id for result in results] == [f"of r{i}" for i in range(500)]
