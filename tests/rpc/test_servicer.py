from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import grpc
import pytest

from spark.agent.v1.agent_service_pb2 import (
    Deposit,
    EndSessionRequest,
    GetInterruptRequest,
    GetSessionRequest,
    ListSessionsRequest,
    PauseSessionRequest,
    ResumeSessionRequest,
)
from spark.agent.v1.interrupt_pb2 import (
    INTERRUPT_STATE_CANCELLED,
    INTERRUPT_STATE_PENDING,
    Interrupt,
    Notification,
)
from spark.agent.v1.session_pb2 import (
    ACTIVITY_QUEUED,
    SESSION_STATE_ACTIVE,
    SESSION_STATE_ENDED,
    SESSION_STATE_PAUSED,
    SessionConfig,
)
from tests.rpc.calls import created, deposited, nudge, reason, refused, violated
from tests.rpc.conftest import Door


async def test_a_session_is_created_with_the_first_model_and_starts_to_work(door: Door) -> None:
    session = await created(door, display_name="lamp", labels={"team": "a"})
    assert session.config.model == "local"
    assert (session.display_name, dict(session.labels)) == ("lamp", {"team": "a"})
    assert (session.state, session.activity) == (SESSION_STATE_ACTIVE, ACTIVITY_QUEUED)
    assert (session.revision, session.turn) == (1, 0)


async def test_a_session_reads_back_as_it_was_created(door: Door) -> None:
    session = await created(door, config=SessionConfig(model="demo", tools=["now"]))
    response = await door.stub.GetSession(GetSessionRequest(session_id=session.session_id))
    assert response.session == session


async def test_creating_again_with_the_same_request_id_gives_the_first_session(door: Door) -> None:
    first = await created(door, request_id="r-1")
    assert (await created(door, request_id="r-1")).session_id == first.session_id
    code, why, _ = await refused(created(door, request_id="r-1", goal="Put it out."))
    assert (code, why) == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")


async def test_a_session_without_a_goal_is_refused_by_the_field(door: Door) -> None:
    code, why, status = await refused(created(door, goal=""))
    assert (code, why) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    assert violated(status) == "session.goal"


async def test_a_session_with_a_model_that_is_not_configured_is_refused(door: Door) -> None:
    code, why, _ = await refused(created(door, config=SessionConfig(model="gpt")))
    assert (code, why) == (grpc.StatusCode.FAILED_PRECONDITION, "CONFIG_NOT_FOUND")


async def test_what_does_not_exist_is_not_found(door: Door) -> None:
    unknown = str(uuid4())
    code, why, _ = await refused(door.stub.GetSession(GetSessionRequest(session_id=unknown)))
    assert (code, why) == (grpc.StatusCode.NOT_FOUND, "SESSION_NOT_FOUND")
    code, why, _ = await refused(door.stub.EndSession(EndSessionRequest(session_id=unknown)))
    assert (code, why) == (grpc.StatusCode.NOT_FOUND, "SESSION_NOT_FOUND")
    code, why, _ = await refused(door.stub.GetInterrupt(GetInterruptRequest(interrupt_id=unknown)))
    assert (code, why) == (grpc.StatusCode.NOT_FOUND, "INTERRUPT_NOT_FOUND")


async def test_a_malformed_id_is_refused_by_the_field(door: Door) -> None:
    _, why, status = await refused(door.stub.GetSession(GetSessionRequest(session_id="x")))
    assert (why, violated(status)) == ("INVALID_FIELD", "session_id")
    _, why, status = await refused(door.stub.GetInterrupt(GetInterruptRequest(interrupt_id="x")))
    assert (why, violated(status)) == ("INVALID_FIELD", "interrupt_id")


async def test_sessions_are_listed_newest_first_page_by_page(door: Door) -> None:
    newest_first = [(await created(door)).session_id for _ in range(5)][::-1]
    pages, token = [], ""
    while True:
        request = ListSessionsRequest(page_size=2, page_token=token)
        page = await door.stub.ListSessions(request)
        pages.append([session.session_id for session in page.sessions])
        token = page.next_page_token
        if not token:
            break
    assert pages == [newest_first[:2], newest_first[2:4], newest_first[4:]]


async def test_a_listing_without_sessions_is_one_empty_page(door: Door) -> None:
    page = await door.stub.ListSessions(ListSessionsRequest())
    assert (list(page.sessions), page.next_page_token) == ([], "")


async def test_a_listing_keeps_what_its_filters_say(door: Door) -> None:
    ours = await created(door, labels={"team": "a", "env": "test"})
    await created(door, labels={"team": "b"})
    ended = await created(door, labels={"team": "a"})
    await door.stub.EndSession(EndSessionRequest(session_id=ended.session_id))
    request = ListSessionsRequest(states=[SESSION_STATE_ACTIVE], labels={"team": "a"})
    page = await door.stub.ListSessions(request)
    assert [session.session_id for session in page.sessions] == [ours.session_id]


async def test_a_page_token_is_good_for_its_own_filters_only(door: Door) -> None:
    for _ in range(2):
        await created(door)
    token = (await door.stub.ListSessions(ListSessionsRequest(page_size=1))).next_page_token
    other = ListSessionsRequest(page_size=1, page_token=token, states=[SESSION_STATE_ACTIVE])
    for request in (other, ListSessionsRequest(page_token="forged")):
        _, why, status = await refused(door.stub.ListSessions(request))
        assert (why, violated(status)) == ("INVALID_FIELD", "page_token")


async def test_a_page_is_cut_before_it_is_too_large_for_a_client(door: Door) -> None:
    prompt = SessionConfig(inner_voice_prompt="p" * 16_000)
    for _ in range(40):
        await created(door, goal="g" * 16_000, config=prompt)
    page = await door.stub.ListSessions(ListSessionsRequest(page_size=1000))
    assert 1 < len(page.sessions) < 40
    assert page.ByteSize() < 1_100_000
    rest = await door.stub.ListSessions(ListSessionsRequest(page_size=1000, page_token=page.next_page_token))
    assert len({session.session_id for session in (*page.sessions, *rest.sessions)}) == 40


async def test_a_session_ends_and_cancels_what_waits(door: Door) -> None:
    session_id = (await created(door)).session_id
    (posted,) = await deposited(door, nudge(session_id))
    session = (await door.stub.EndSession(EndSessionRequest(session_id=session_id))).session
    assert (session.state, session.pending_interrupts) == (SESSION_STATE_ENDED, 0)
    request = GetInterruptRequest(interrupt_id=posted.interrupt.interrupt_id)
    interrupt = (await door.stub.GetInterrupt(request)).interrupt
    assert interrupt.state == INTERRUPT_STATE_CANCELLED
    assert interrupt.settle_reason


async def test_ending_twice_changes_nothing(door: Door) -> None:
    request = EndSessionRequest(session_id=(await created(door)).session_id)
    first = (await door.stub.EndSession(request)).session
    assert (await door.stub.EndSession(request)).session == first


async def test_a_deposit_is_answered_with_the_interrupt_as_it_is_stored(door: Door) -> None:
    session_id = (await created(door)).session_id
    notification = Notification(type="finetune.finished", subject="ft-1", text="Done.")
    notification.data.update({"loss": 0.5, "steps": 1200, "best": None, "tags": ["a", {"b": True}]})
    interrupt = Interrupt(session_id=session_id, source="service:optimizer", notification=notification)
    interrupt.expire_time.FromDatetime(datetime.now(UTC) + timedelta(hours=1))
    (result,) = await deposited(door, Deposit(interrupt=interrupt, request_id="r-1", principal="p"))
    stored = result.interrupt
    assert not result.duplicate
    assert (stored.state, stored.revision, stored.principal) == (INTERRUPT_STATE_PENDING, 2, "p")
    assert stored.notification == notification
    assert stored.expire_time.ToDatetime() == interrupt.expire_time.ToDatetime()
    request = GetInterruptRequest(interrupt_id=stored.interrupt_id)
    assert (await door.stub.GetInterrupt(request)).interrupt == stored


async def test_data_is_told_as_it_is_stored_however_it_was_sent(door: Door) -> None:
    item = nudge((await created(door)).session_id)
    item.interrupt.notification.type = "finetune.finished"
    item.interrupt.notification.data.update({"loss": -0.0, "steps": [-0.0, 1200]})
    item.interrupt.notification.data.MergeFromString(b"\x98\x06\x01")
    told = [result.interrupt for result in await deposited(door, item, item)]
    read = await door.stub.GetInterrupt(GetInterruptRequest(interrupt_id=told[0].interrupt_id))
    assert told == [read.interrupt] * 2


async def test_results_come_in_the_order_of_the_deposits_and_a_bad_one_fails_alone(door: Door) -> None:
    session_id, ended_id = [(await created(door)).session_id for _ in range(2)]
    await door.stub.EndSession(EndSessionRequest(session_id=ended_id))
    results = await deposited(
        door,
        nudge(session_id, "first"),
        nudge(session_id, "bell\a"),
        nudge(str(uuid4())),
        nudge(ended_id),
        nudge(session_id, source="cron"),
        nudge(session_id, "last"),
    )
    assert [result.interrupt.nudge.text or reason(result.error) for result in results] == [
        "first",
        "INVALID_FIELD",
        "SESSION_NOT_FOUND",
        "SESSION_ENDED",
        "SOURCE_NOT_ALLOWED",
        "last",
    ]
    invalid = results[1].error
    assert invalid.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert violated(invalid) == "interrupt.nudge.text"
    assert "interrupt.nudge.text" in invalid.message


async def test_the_same_request_id_gives_the_same_interrupt_in_one_batch_and_later(door: Door) -> None:
    session_id = (await created(door)).session_id
    first, again = await deposited(door, *[nudge(session_id, request_id="r-1")] * 2)
    (later,) = await deposited(door, nudge(session_id, request_id="r-1"))
    assert {result.interrupt.interrupt_id for result in (first, again, later)} == {
        first.interrupt.interrupt_id
    }
    assert [first.duplicate, again.duplicate, later.duplicate] == [False, True, True]
    (other,) = await deposited(door, nudge(session_id, "Look south.", request_id="r-1"))
    assert reason(other.error) == "REQUEST_ID_REUSED"


async def test_a_deposit_that_is_repeated_after_the_end_is_not_refused(door: Door) -> None:
    session_id = (await created(door)).session_id
    (first,) = await deposited(door, nudge(session_id, request_id="r-1"))
    await door.stub.EndSession(EndSessionRequest(session_id=session_id))
    (again,) = await deposited(door, nudge(session_id, request_id="r-1"))
    assert again.duplicate
    assert again.interrupt.interrupt_id == first.interrupt.interrupt_id
    assert again.interrupt.state == INTERRUPT_STATE_CANCELLED


async def test_an_expire_time_in_the_past_is_refused_by_the_field(door: Door) -> None:
    late = nudge((await created(door)).session_id)
    late.interrupt.expire_time.FromDatetime(datetime(2001, 1, 1, tzinfo=UTC))
    (result,) = await deposited(door, late)
    assert violated(result.error) == "interrupt.expire_time"


async def test_data_as_deep_as_allowed_comes_through_and_deeper_is_refused(door: Door) -> None:
    session_id = (await created(door)).session_id
    (allowed,) = await deposited(door, deep(session_id, 30))
    assert allowed.HasField("interrupt")
    (refused,) = await deposited(door, deep(session_id, 31))
    assert violated(refused.error) == "interrupt.notification.data"


def deep(session_id: str, depth: int) -> Deposit:
    data: dict[str, object] = {"a": 1}
    for _ in range(depth - 1):
        data = {"a": data}
    notification = Notification(type="deep")
    notification.data.update(data)
    interrupt = Interrupt(session_id=session_id, source="service", notification=notification)
    return Deposit(interrupt=interrupt, request_id=uuid4().hex)


async def test_a_batch_may_have_500_deposits_and_no_more(door: Door) -> None:
    session_id = (await created(door)).session_id
    full = [nudge(session_id, source=f"user:u{n % 3}") for n in range(500)]
    assert all(result.HasField("interrupt") for result in await deposited(door, *full))
    code, why, status = await refused(deposited(door, *full, nudge(session_id)))
    assert (code, why, violated(status)) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", "deposits")


async def test_an_empty_batch_has_no_results(door: Door) -> None:
    assert await deposited(door) == []


async def test_posts_at_the_same_time_are_all_answered(door: Door) -> None:
    session_id = (await created(door)).session_id
    answers = await asyncio.gather(*(deposited(door, nudge(session_id, str(n))) for n in range(50)))
    assert [result.interrupt.nudge.text for (result,) in answers] == [str(n) for n in range(50)]
    assert {result.interrupt.revision for (result,) in answers} == set(range(2, 52))


async def test_a_session_is_paused_and_resumed(door: Door) -> None:
    session_id = (await created(door)).session_id
    for _ in range(2):
        paused = await door.stub.PauseSession(PauseSessionRequest(session_id=session_id))
        assert paused.session.state == SESSION_STATE_PAUSED
    (posted,) = await deposited(door, nudge(session_id))
    assert posted.HasField("interrupt")
    for _ in range(2):
        resumed = await door.stub.ResumeSession(ResumeSessionRequest(session_id=session_id))
        assert resumed.session.state == SESSION_STATE_ACTIVE
    await door.stub.EndSession(EndSessionRequest(session_id=session_id))
    for call in (
        door.stub.PauseSession(PauseSessionRequest(session_id=session_id)),
        door.stub.ResumeSession(ResumeSessionRequest(session_id=session_id)),
    ):
        code, why, _ = await refused(call)
        assert (code, why) == (grpc.StatusCode.FAILED_PRECONDITION, "SESSION_ENDED")


@pytest.mark.parametrize(
    ("sent", "expected"),
    [("", grpc.StatusCode.INVALID_ARGUMENT), (str(uuid4()), grpc.StatusCode.NOT_FOUND)],
)
async def test_pausing_what_is_no_session_is_refused(
    door: Door, sent: str, expected: grpc.StatusCode
) -> None:
    for call in (
        door.stub.PauseSession(PauseSessionRequest(session_id=sent)),
        door.stub.ResumeSession(ResumeSessionRequest(session_id=sent)),
    ):
        code, _, _ = await refused(call)
        assert code is expected
