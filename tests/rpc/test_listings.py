"""What there is to read of a session page by page, and what of it can be withdrawn."""

from __future__ import annotations

from uuid import uuid4

import grpc
import pytest

from agent_service.domain import SessionId, Usage, new_id
from agent_service.rpc.convert.page import token as page_token
from spark.agent.v1.agent_service_pb2 import (
    CancelInterruptRequest,
    GetInterruptRequest,
    ListInterruptsRequest,
    ListMessagesRequest,
)
from spark.agent.v1.interrupt_pb2 import (
    INTERRUPT_STATE_CANCELLED,
    INTERRUPT_STATE_DELIVERED,
    INTERRUPT_STATE_PENDING,
    INTERRUPT_STATE_SEEN,
    Interrupt,
    InterruptState,
)
from spark.agent.v1.message_pb2 import (
    MESSAGE_TYPE_ASSISTANT,
    MESSAGE_TYPE_SUMMARY,
    MESSAGE_TYPE_SYSTEM,
    MESSAGE_TYPE_TOOL_CALL,
    MESSAGE_TYPE_TOOL_RESPONSE,
    MESSAGE_TYPE_USER,
    Message,
)
from tests.rpc.calls import refused, violated
from tests.rpc.conftest import Door
from tests.support import assistant, call, response

UNKNOWN = str(uuid4())

_SUMMARISE = """
INSERT INTO messages (session_id, message_id, type, position, covers_through_position, text, posted_at,
                      posted_revision)
VALUES ($1, $2, 'summary', $3, $4, 'It was a quiet night.', now(), 1)"""


async def interrupts(
    door: Door, session_id: SessionId, size: int, *states: InterruptState.ValueType
) -> list[Interrupt]:
    """All of them, read in pages."""
    request = ListInterruptsRequest(session_id=str(session_id), page_size=size, states=states)
    found: list[Interrupt] = []
    while True:
        page = await door.stub.ListInterrupts(request)
        assert len(page.interrupts) <= size
        found.extend(page.interrupts)
        if not page.next_page_token:
            return found
        request.page_token = page.next_page_token


async def messages(door: Door, session_id: SessionId, size: int) -> list[Message]:
    """All of them, read in pages."""
    request = ListMessagesRequest(session_id=str(session_id), page_size=size)
    found: list[Message] = []
    while True:
        page = await door.stub.ListMessages(request)
        assert len(page.messages) <= size
        found.extend(page.messages)
        if not page.next_page_token:
            return found
        request.page_token = page.next_page_token


async def get(door: Door, interrupt_id: object) -> Interrupt:
    return (await door.stub.GetInterrupt(GetInterruptRequest(interrupt_id=str(interrupt_id)))).interrupt


async def cancel(door: Door, interrupt_id: object) -> Interrupt:
    request = CancelInterruptRequest(interrupt_id=str(interrupt_id))
    return (await door.stub.CancelInterrupt(request)).interrupt


class TestInterrupts:
    async def test_are_listed_by_deposit_page_by_page(self, door: Door) -> None:
        session_id = await door.store.session()
        posted = [str((await door.store.nudge(session_id, str(n))).interrupt_id) for n in range(5)]
        listed = await interrupts(door, session_id, 2)
        assert [one.interrupt_id for one in listed] == posted
        assert listed == [await get(door, interrupt_id) for interrupt_id in posted]

    async def test_are_kept_by_their_states(self, door: Door) -> None:
        session_id = await door.store.session()
        seen = await door.store.nudge(session_id, "seen")
        work = await door.store.open_turn(session_id)
        await door.store.transcript.see(work.lease, [seen.interrupt_id])
        await door.store.nudge(session_id, "pending")

        async def texts(*states: InterruptState.ValueType) -> list[str]:
            return [one.nudge.text for one in await interrupts(door, session_id, 50, *states)]

        assert await texts() == ["seen", "pending"]
        assert await texts(INTERRUPT_STATE_PENDING) == ["pending"]
        assert await texts(INTERRUPT_STATE_SEEN, INTERRUPT_STATE_PENDING) == ["seen", "pending"]
        assert await texts(INTERRUPT_STATE_DELIVERED) == []

    async def test_fill_no_page_that_is_too_large_for_a_client(self, door: Door) -> None:
        session_id = await door.store.session()
        for n in range(80):
            await door.store.nudge(session_id, f"{n}".ljust(16_000, "x"))
        page = await door.stub.ListInterrupts(
            ListInterruptsRequest(session_id=str(session_id), page_size=1000)
        )
        assert 1 < len(page.interrupts) < 80
        assert page.ByteSize() < 1_100_000
        assert len(await interrupts(door, session_id, 1000)) == 80

    async def test_have_page_tokens_for_their_session_and_filters_only(self, door: Door) -> None:
        ids = [await door.store.session() for _ in range(2)]
        for _ in range(2):
            await door.store.nudge(ids[0])
        session_id, other = map(str, ids)
        first = await door.stub.ListInterrupts(ListInterruptsRequest(session_id=session_id, page_size=1))
        token = first.next_page_token
        nowhere = page_token(2**63, "ListInterrupts", [session_id, []])
        for request in (
            ListInterruptsRequest(session_id=session_id, page_token=nowhere),
            ListInterruptsRequest(session_id=other, page_token=token),
            ListInterruptsRequest(session_id=session_id, page_token=token, states=[INTERRUPT_STATE_PENDING]),
            ListInterruptsRequest(session_id=session_id, page_token="forged"),
        ):
            _, why, status = await refused(door.stub.ListInterrupts(request))
            assert (why, violated(status)) == ("INVALID_FIELD", "page_token")

    async def test_of_an_unknown_state_cannot_be_asked_for(self, door: Door) -> None:
        for number in (0, 7):
            request = ListInterruptsRequest(session_id=UNKNOWN, states=[number])  # type: ignore[list-item]
            _, why, status = await refused(door.stub.ListInterrupts(request))
            assert (why, violated(status)) == ("INVALID_FIELD", "states")


class TestATranscript:
    async def test_is_listed_by_position_page_by_page(self, door: Door) -> None:
        session_id = await door.store.session()
        nudge = await door.store.nudge(session_id)
        work = await door.store.open_turn(session_id)
        rows = [assistant("I look."), call("a")]
        await door.store.transcript.append_reply(work.lease, work.next_position, work.place, rows, Usage())
        await door.store.transcript.append(
            work.lease, work.next_position + 2, work.place, [response("a")], Usage()
        )
        await door.store.nudge(session_id, "pending")

        listed = await messages(door, session_id, 2)

        assert [row.position for row in listed] == [1, 2, 3, 4, 5]
        assert [row.type for row in listed] == [
            MESSAGE_TYPE_SYSTEM,
            MESSAGE_TYPE_USER,
            MESSAGE_TYPE_ASSISTANT,
            MESSAGE_TYPE_TOOL_CALL,
            MESSAGE_TYPE_TOOL_RESPONSE,
        ]
        assert listed[0].interrupt == await get(door, nudge.interrupt_id)
        assert (listed[3].tool_call.name, listed[4].tool_response.content) == ("now", "noon")

    async def test_has_a_summary_and_the_rows_that_it_covers(self, door: Door) -> None:
        session_id = await door.store.session()
        work = await door.store.open_turn(session_id)
        async with door.store.database.connection() as connection:
            await connection.execute(_SUMMARISE, session_id, new_id(), work.next_position, 1)
        listed = await messages(door, session_id, 1)
        assert [(row.type, row.covers_through_position) for row in listed] == [
            (MESSAGE_TYPE_USER, 0),
            (MESSAGE_TYPE_SUMMARY, 1),
        ]

    async def test_fills_no_page_that_is_too_large_for_a_client(self, door: Door) -> None:
        session_id = await door.store.session()
        work = await door.store.open_turn(session_id)
        rows = [assistant(f"{n}".ljust(600_000, "x")) for n in range(3)]
        await door.store.transcript.append_reply(work.lease, work.next_position, work.place, rows, Usage())
        request = ListMessagesRequest(session_id=str(session_id))
        page = await door.stub.ListMessages(request)
        assert [row.position for row in page.messages] == [1, 2]
        assert [row.position for row in await messages(door, session_id, 50)] == [1, 2, 3, 4]


class TestCancelling:
    async def test_settles_a_pending_interrupt_and_again_changes_nothing(self, door: Door) -> None:
        session_id = await door.store.session()
        nudge = await door.store.nudge(session_id)
        first = await cancel(door, nudge.interrupt_id)
        assert first.state == INTERRUPT_STATE_CANCELLED
        assert first.settle_reason == "on request"
        assert first.HasField("settle_time")
        assert await cancel(door, nudge.interrupt_id) == first == await get(door, nudge.interrupt_id)

    async def test_a_delivered_interrupt_is_refused(self, door: Door) -> None:
        session_id = await door.store.session()
        nudge = await door.store.nudge(session_id)
        await door.store.open_turn(session_id)
        code, why, _ = await refused(cancel(door, nudge.interrupt_id))
        assert (code, why) == (grpc.StatusCode.FAILED_PRECONDITION, "INTERRUPT_NOT_PENDING")
        assert (await get(door, nudge.interrupt_id)).state == INTERRUPT_STATE_DELIVERED


@pytest.mark.parametrize("method", ["ListInterrupts", "ListMessages"])
async def test_a_listing_of_an_unknown_session_is_refused(door: Door, method: str) -> None:
    request = {"ListInterrupts": ListInterruptsRequest, "ListMessages": ListMessagesRequest}[method]
    code, why, _ = await refused(getattr(door.stub, method)(request(session_id=UNKNOWN)))
    assert (code, why) == (grpc.StatusCode.NOT_FOUND, "SESSION_NOT_FOUND")


async def test_an_unknown_interrupt_cannot_be_cancelled(door: Door) -> None:
    code, why, _ = await refused(cancel(door, UNKNOWN))
    assert (code, why) == (grpc.StatusCode.NOT_FOUND, "INTERRUPT_NOT_FOUND")
