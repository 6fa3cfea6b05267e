"""Safe points at which an open turn is taken up in the middle of its tool calls."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest

from agent_service.domain import (
    Activity,
    Delivery,
    Interrupt,
    InterruptState,
    Lease,
    MessageType,
    NewMessage,
    Place,
    Portion,
    SessionId,
    SessionState,
    ToolCall,
    ToolResponse,
    Usage,
)
from agent_service.errors import LeaseLost
from agent_service.store.held import Admission
from agent_service.store.safe_points import SafePoint, Wait
from tests.support import Store, admit_all, call, in_order, response

HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Broken:
    """An open turn whose model has called `dig`, which is lost, and waits for an hour."""

    store: Store
    session_id: SessionId
    lease: Lease
    next_position: int
    deadline: datetime

    async def repair(
        self, wait: bool = True, over: bool = False, admit: Admission = admit_all
    ) -> SafePoint | None:
        deadline = datetime.now(UTC) - HOUR if over else self.deadline
        return await self.store.safe_points.repair(
            self.lease,
            self.next_position,
            [response("dig", "It is lost.", "dig")],
            Wait(deadline, response("wait", "Woken.", "wait"), response("wait", "Over.", "wait"))
            if wait
            else None,
            admit,
        )

    async def due_at(self) -> datetime | None:
        return (await self.store.sessions.get(self.session_id)).next_turn_time


async def broken(store: Store, **limits: int) -> Broken:
    session_id = await store.session()
    await store.sessions.update(
        session_id,
        lambda now: replace(now, config=replace(now.config, **limits)),  # type: ignore[arg-type]
    )
    work = await store.open_turn(session_id)
    waits = NewMessage(MessageType.TOOL_CALL, ToolCall("wait", "wait", "{}"), wait_seconds=3600)
    rows = await store.transcript.append_reply(
        work.lease, work.next_position, work.place, [call("dig", "dig"), waits], Usage(70, 0, 30)
    )
    assert rows[1].deadline
    return Broken(store, session_id, work.lease, work.next_position + 2, rows[1].deadline)


def said(point: SafePoint | None) -> list[str]:
    """What the rows of a safe point say, in order."""
    assert point
    return [
        row.content.content if isinstance(row.content, ToolResponse) else row.source for row in point.rows
    ]


async def test_calls_that_are_lost_are_answered_and_the_holder_goes_on(store: Store) -> None:
    turn = await broken(store)
    nudge = await store.nudge(turn.session_id)
    point = await turn.repair(wait=False)
    assert said(point) == ["It is lost."]
    assert point
    assert point.place == Place(1, 1, 1)
    assert point.revision == (await store.sessions.get(turn.session_id)).session.revision
    # Not a safe point of a round: what waits is delivered at the next one.
    assert (await store.streams.interrupt(nudge.interrupt_id)).state is InterruptState.PENDING
    rows = (await store.load(turn.lease)).rows
    assert rows[-1:] == point.rows


async def test_all_that_waits_ends_the_wait_in_the_order_of_the_deposits(store: Store) -> None:
    turn = await broken(store)
    posted = [await store.nudge(turn.session_id, delivery=delivery) for delivery in Delivery]
    point = await turn.repair()
    assert said(point) == ["It is lost.", "Woken.", *["operator"] * 3]
    assert point
    assert [row.message_id for row in point.rows[2:]] == [one.interrupt_id for one in posted]
    assert [row.position for row in point.rows] == list(range(turn.next_position, turn.next_position + 5))
    snapshot = await store.load(turn.lease)
    assert snapshot.rows[-5:] == point.rows
    assert snapshot.standing.next_position == turn.next_position + 5
    assert (await store.kinds(turn.session_id))[-5:] == [
        *["message_appended"] * 2,
        *["interrupt_delivered"] * 3,
    ]
    assert await store.outstanding(turn.session_id) == 3


async def test_what_is_not_admitted_waits_on_and_the_last_one_delivered_says_so(store: Store) -> None:
    turn = await broken(store)
    for _ in range(3):
        await store.nudge(turn.session_id)
    point = await turn.repair(admit=lambda due: Portion(1))
    assert said(point) == ["It is lost.", "Woken.", "operator"]
    assert point
    assert isinstance(point.rows[-1].content, Interrupt)
    assert point.rows[-1].content.left_waiting == 2
    assert await store.outstanding(turn.session_id) == 3


async def test_a_wait_is_over_at_its_deadline(store: Store) -> None:
    turn = await broken(store)
    assert said(await turn.repair(over=True)) == ["It is lost.", "Over."]


@pytest.mark.parametrize("expired", [False, True])
async def test_a_wait_that_nothing_ends_parks_the_session_with_the_lost_calls_answered(
    store: Store, expired: bool
) -> None:
    turn = await broken(store)
    if expired:
        await store.overdue(turn.session_id)
    assert await turn.repair() is None
    assert await turn.due_at() == turn.deadline
    assert await store.leases.claim_due(await store.replica(), 10) == []
    kinds = await store.kinds(turn.session_id)
    assert kinds[-1] == ("interrupt_settled" if expired else "message_appended")
    with pytest.raises(LeaseLost):
        await turn.repair()
    await store.nudge(turn.session_id)
    snapshot = await store.load(await store.claim(turn.session_id))
    assert snapshot.turn_open
    assert snapshot.standing.next_position == turn.next_position + 1
    assert snapshot.rows[-1].content == ToolResponse("dig", "dig", "It is lost.")


async def test_a_session_that_may_not_work_is_not_repaired(store: Store) -> None:
    turn = await broken(store)
    await store.nudge(turn.session_id)
    await store.sessions.pause(turn.session_id)
    assert await turn.repair() is None
    assert (await store.kinds(turn.session_id))[-1] == "session_changed"
    await store.sessions.resume(turn.session_id)
    snapshot = await store.load(await store.claim(turn.session_id))
    assert snapshot.standing.next_position == turn.next_position


@pytest.mark.parametrize("limits", [{"max_rounds_per_turn": 1}, {"token_budget": 100}])
@pytest.mark.parametrize("over", [False, True])
async def test_a_limit_stops_the_session_before_the_wait_ends(
    store: Store, limits: dict[str, int], over: bool
) -> None:
    turn = await broken(store, **limits)
    nudge = await store.nudge(turn.session_id)
    assert await turn.repair(over=over) is None
    session = (await store.sessions.get(turn.session_id)).session
    assert session.state is SessionState.PAUSED
    assert session.state_reason.startswith("limit reached: ")
    assert (await store.streams.interrupt(nudge.interrupt_id)).state is InterruptState.PENDING
    assert (await store.kinds(turn.session_id))[-2:] == ["message_appended", "session_changed"]


async def test_a_wait_that_goes_on_is_stopped_by_no_limit(store: Store) -> None:
    turn = await broken(store, max_rounds_per_turn=1, token_budget=100)
    assert await turn.repair() is None
    assert (await store.sessions.get(turn.session_id)).activity is Activity.WAITING


async def test_a_repair_of_a_transcript_that_has_grown_is_refused(store: Store) -> None:
    turn = await broken(store)
    with pytest.raises(LeaseLost):
        await replace(turn, next_position=turn.next_position - 1).repair()


async def test_a_repair_that_waits_for_the_lock_delivers_what_was_deposited_meanwhile(store: Store) -> None:
    """Naive: look for what waits before the session's row is had, and park though something has come."""
    turn = await broken(store)
    _, point = await in_order(
        store, turn.session_id, lambda: store.nudge(turn.session_id), lambda: turn.repair()
    )
    assert isinstance(point, SafePoint)
    assert said(point) == ["It is lost.", "Woken.", "operator"]


async def test_a_deposit_that_waits_for_the_parking_makes_the_session_due_at_once(store: Store) -> None:
    turn = await broken(store)
    parked, _ = await in_order(
        store, turn.session_id, lambda: turn.repair(), lambda: store.nudge(turn.session_id)
    )
    assert parked is None
    assert (await store.claim(turn.session_id)).epoch > turn.lease.epoch
