"""The gateway's methods, between a real channel and a server that plays the agent service."""

import asyncio
from uuid import UUID

import grpc
import pytest
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from google.rpc.status_pb2 import Status
from structlog.testing import capture_logs

from spark.agent.v1.agent_service_pb2 import DepositError, DepositResult
from spark.agent.v1.interrupt_pb2 import DELIVERY_IMMEDIATE, Interrupt, Notification, Nudge
from spark.gateway.v1 import gateway_service_pb2 as pb
from tests.gateway.conditions import until
from tests.gateway.running_gateway import Caller, caller_of, calling, gateway_to
from tests.gateway.scripted_agent import ScriptedAgent, deposited
from tests.gateway.statuses import info, raw_details, retry_seconds, violations

SESSION = "0199c0de-0000-7000-8000-000000000001"
NUDGE = Interrupt(session_id=SESSION, source="operator", nudge=Nudge(text="stop there"))


def refusing(code: int, message: str, *details) -> ScriptedAgent:
    """An agent service that refuses each deposit."""
    script = ScriptedAgent()
    error = DepositError(code=code, message=message)
    for detail in details:
        error.details.add().Pack(detail)
    script.answer = lambda _: DepositResult(error=error)
    return script


async def refusal(caller: Caller, request: pb.PostInterruptRequest) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as told:
        await caller.gateway.PostInterrupt(request)
    return told.value


async def test_a_post_is_deposited_as_it_came():
    interrupt = Interrupt(
        session_id=SESSION,
        source="service:optimizer",
        delivery=DELIVERY_IMMEDIATE,
        coalesce_key="loss",
        notification=Notification(type="finetune.finished", subject="job-7", text="done"),
    )
    interrupt.notification.data.update({"loss": 0.25, "steps": [1, 2, {"deep": None}]})
    script = ScriptedAgent()
    async with caller_of(script) as caller:
        response = await caller.gateway.PostInterrupt(
            pb.PostInterruptRequest(interrupt=interrupt, request_id="r1")
        )

    (deposit,) = script.calls[0].deposits
    assert deposit.interrupt == interrupt
    assert (deposit.request_id, deposit.principal) == ("r1", "")
    assert response.interrupt.interrupt_id == "of r1"
    assert not response.duplicate


async def test_fields_that_this_gateway_does_not_know_are_forwarded():
    newer = NUDGE.SerializeToString() + b"\xfa\x07\x03new"
    script = ScriptedAgent()
    async with caller_of(script) as caller:
        await caller.gateway.PostInterrupt(
            pb.PostInterruptRequest(interrupt=Interrupt.FromString(newer), request_id="r1")
        )

    assert script.calls[0].deposits[0].interrupt.SerializeToString() == newer


async def test_a_duplicate_is_told_as_one():
    script = ScriptedAgent()
    script.answer = lambda deposit: DepositResult(interrupt=deposit.interrupt, duplicate=True)
    async with caller_of(script) as caller:
        response = await caller.gateway.PostInterrupt(pb.PostInterruptRequest(interrupt=NUDGE))

    assert response.duplicate


async def test_a_post_without_a_request_id_gets_a_uuid():
    script = ScriptedAgent()
    async with caller_of(script) as caller:
        for _ in range(2):
            await caller.gateway.PostInterrupt(pb.PostInterruptRequest(interrupt=NUDGE))

    one, two = (UUID(call.deposits[0].request_id) for call in script.calls)
    assert one != two


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.PostInterruptRequest(), "interrupt"),
        (pb.PostInterruptRequest(interrupt=Interrupt(nudge=Nudge(text="x"))), "interrupt.source"),
        (
            pb.PostInterruptRequest(interrupt=Interrupt(source="Root", nudge=Nudge(text="x"))),
            "interrupt.source",
        ),
    ],
)
async def test_a_request_that_breaks_the_policy_is_not_forwarded(request_, field):
    script = ScriptedAgent()
    async with caller_of(script) as caller:
        error = await refusal(caller, request_)

    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert info(error).reason == "INVALID_FIELD"
    assert violations(error) == [field]
    assert script.calls == []


async def test_a_clock_may_not_nudge():
    script = ScriptedAgent()
    async with caller_of(script) as caller:
        error = await refusal(
            caller, pb.PostInterruptRequest(interrupt=Interrupt(source="cron", nudge=Nudge(text="x")))
        )

    assert error.code() is grpc.StatusCode.PERMISSION_DENIED
    assert info(error).reason == "SOURCE_NOT_ALLOWED"
    assert script.calls == []


async def test_a_refused_deposit_becomes_the_status_of_the_call():
    details = (
        ErrorInfo(reason="INVALID_FIELD", domain="spark"),
        BadRequest(field_violations=[BadRequest.FieldViolation(field="interrupt.nudge.text")]),
    )
    async with caller_of(refusing(3, "interrupt.nudge.text: is required", *details)) as caller:
        error = await refusal(caller, pb.PostInterruptRequest(interrupt=NUDGE, request_id="mine"))

    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error.details() == "interrupt.nudge.text: is required"
    assert violations(error) == ["interrupt.nudge.text"]
    assert info(error) == details[0]


async def test_an_error_after_the_gateway_chose_the_request_id_names_it():
    reason = ErrorInfo(reason="SESSION_ENDED", domain="spark", metadata={"session_id": SESSION})
    script = refusing(9, "session has ended", reason)
    async with caller_of(script) as caller:
        error = await refusal(caller, pb.PostInterruptRequest(interrupt=NUDGE))

    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert info(error).metadata == {
        "session_id": SESSION,
        "request_id": script.calls[0].deposits[0].request_id,
    }


async def test_the_status_of_a_failed_call_is_passed_on_byte_for_byte():
    details = Status(code=13, message="internal error").SerializeToString() + b"\xfa\x07\x03new"
    script = ScriptedAgent()
    script.before = lambda context: context.abort(
        grpc.StatusCode.INTERNAL, "internal error", (("grpc-status-details-bin", details),)
    )
    async with caller_of(script) as caller:
        error = await refusal(caller, pb.PostInterruptRequest(interrupt=NUDGE, request_id="mine"))

    assert (error.code(), error.details()) == (grpc.StatusCode.INTERNAL, "internal error")
    assert raw_details(error) == details


async def test_without_an_agent_service_a_post_is_unavailable_and_names_its_request_id():
    async with gateway_to("127.0.0.1:1") as address, calling(address) as caller:
        error = await refusal(caller, pb.PostInterruptRequest(interrupt=NUDGE))

    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert info(error).reason == "UNAVAILABLE"
    assert UUID(info(error).metadata["request_id"])
    assert retry_seconds(error) > 0


async def test_the_deadline_of_a_caller_reaches_the_agent_service():
    script = ScriptedAgent()
    async with caller_of(script) as caller:
        await caller.gateway.PostInterrupt(pb.PostInterruptRequest(interrupt=NUDGE), timeout=60)

    assert script.seconds_left == pytest.approx([60], abs=5)


async def test_a_caller_whose_deadline_passes_is_not_left_waiting():
    script, never = ScriptedAgent(), asyncio.Event()
    script.before = lambda _: never.wait()
    async with caller_of(script) as caller:
        with pytest.raises(grpc.aio.AioRpcError):
            await caller.gateway.PostInterrupt(pb.PostInterruptRequest(interrupt=NUDGE), timeout=0.2)


async def test_many_posts_at_once_each_get_their_own_result():
    script = ScriptedAgent()
    script.answer = lambda deposit: (
        DepositResult(error=DepositError(code=5, message=deposit.request_id))
        if deposit.request_id.endswith("7")
        else deposited(deposit)
    )
    async with caller_of(script) as caller:
        outcomes = await asyncio.gather(
            *(
                caller.gateway.PostInterrupt(pb.PostInterruptRequest(interrupt=NUDGE, request_id=f"r{i}"))
                for i in range(100)
            ),
            return_exceptions=True,
        )

    for i, outcome in enumerate(outcomes):
        if i % 10 == 7:
            assert (outcome.code(), outcome.details()) == (grpc.StatusCode.NOT_FOUND, f"r{i}")
        else:
            assert outcome.interrupt.interrupt_id == f"of r{i}"
    assert len(script.calls) < 100


async def test_a_watch_shows_each_state_and_ends_with_the_agent_services_watch():
    script = ScriptedAgent()
    for revision in (1, 2):
        await script.states.put(Interrupt(interrupt_id="i1", revision=revision))
    await script.states.put(None)
    async with caller_of(script) as caller:
        watch = caller.gateway.WatchInterrupt(pb.WatchInterruptRequest(interrupt_id="i1"))
        states = [response.interrupt.revision async for response in watch]

    assert states == [1, 2]
    assert script.watched == ["i1"]


async def test_the_error_of_a_watch_is_passed_on_byte_for_byte():
    details = Status(code=5, message="no such interrupt").SerializeToString()
    script = ScriptedAgent()
    script.before = lambda context: context.abort(
        grpc.StatusCode.NOT_FOUND, "no such interrupt", (("grpc-status-details-bin", details),)
    )
    async with caller_of(script) as caller:
        with pytest.raises(grpc.aio.AioRpcError) as told:
            await caller.gateway.WatchInterrupt(pb.WatchInterruptRequest(interrupt_id="i1")).read()

    assert told.value.code() is grpc.StatusCode.NOT_FOUND
    assert raw_details(told.value) == details


async def test_a_watcher_that_leaves_ends_the_agent_services_watch():
    script = ScriptedAgent()
    async with caller_of(script) as caller:
        watch = caller.gateway.WatchInterrupt(pb.WatchInterruptRequest(interrupt_id="i1"))
        await until(lambda: script.watched)

        watch.cancel()

        await until(lambda: script.watches_ended)


async def test_a_watcher_that_leaves_at_any_moment_leaves_no_watch_at_the_agent_service():
    script = ScriptedAgent()
    async with caller_of(script) as caller:
        for turns_of_the_loop in range(60):
            await script.states.put(Interrupt(interrupt_id="i1"))
            watch = caller.gateway.WatchInterrupt(pb.WatchInterruptRequest(interrupt_id="i1"))
            reading = asyncio.ensure_future(watch.read())
            for _ in range(turns_of_the_loop):
                await asyncio.sleep(0)
            watch.cancel()
            await asyncio.wait({reading})
        await until(lambda: script.watches_ended == len(script.watched))


async def test_the_log_has_the_facts_of_a_post_and_not_its_content():
    async with caller_of(ScriptedAgent()) as caller:
        with capture_logs() as logs:
            await caller.gateway.PostInterrupt(pb.PostInterruptRequest(interrupt=NUDGE, request_id="r1"))

    (posted,) = (line for line in logs if line["event"] == "interrupt posted")
    assert posted["session_id"] == SESSION
    assert "stop there" not in str(logs)
