"""What is written is what is read, through the real tables."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from agent_service.domain import (
    Activity,
    Compacted,
    Delivery,
    EventType,
    Happening,
    InterruptChanged,
    InterruptState,
    JsonObject,
    Message,
    MessageAppended,
    NewSession,
    Notification,
    Nudge,
    Place,
    RoundFailed,
    RoundFailure,
    RoundStarted,
    SessionChanged,
    SessionConfig,
    SessionMode,
    SessionState,
    ToolCall,
    ToolCallStarted,
    TurnEnd,
    TurnEnded,
    TurnStarted,
    Usage,
)
from agent_service.store.rows import get
from agent_service.store.transcript import Compaction
from tests.support import Store, admit_all, assistant, call, deposit, response, summary, terms

CONFIG = SessionConfig(
    model="local",
    inner_voice_model="small",
    tools=("now", "note"),
    inner_voice_prompt="Ask for {one} thing,\n\N{EURO SIGN} or \N{GRINNING FACE}.",
    disable_inner_voice=True,
    mode=SessionMode.ON_INTERRUPT,
    cooldown=timedelta(days=365, microseconds=1),
    max_rounds_per_turn=2,
    max_turns=2**31 - 1,
    token_budget=2**62,
)


async def test_a_session_is_read_as_it_was_created(store: Store) -> None:
    new = NewSession(
        'the "lamp"', "Keep it.\n\\u0000 {} %s", CONFIG, {"team": "red", "": "'"}, "r", b"\x00\xff"
    )
    created = (await store.sessions.create(new)).session
    assert (created.display_name, created.goal) == (new.display_name, new.goal)
    assert (created.config, created.labels) == (new.config, new.labels)
    assert (created.state, created.revision, created.turn) == (SessionState.ACTIVE, 1, 0)
    (event,) = await store.streams.page(created.session_id, 0, 10)
    assert event.happening == SessionChanged(created)


@pytest.mark.parametrize(
    "body",
    [
        Nudge("Look north.\n\N{EURO SIGN}"),
        Notification("finetune.finished"),
        Notification("finetune.finished", "run 7", "It is better.", '{"loss":0.1,"loss ":[1,null]}'),
    ],
)
async def test_an_interrupt_is_read_as_it_was_deposited(store: Store, body: Nudge | Notification) -> None:
    post = replace(
        deposit(await store.session(), source="service:optimizer"),
        body=body,
        principal="spiffe://cluster/optimizer",
        delivery=Delivery.IMMEDIATE,
        coalesce_key="k",
        expire_time=datetime.now(UTC) + timedelta(days=1, microseconds=1),
    )
    deposited = (await store.deposits.deposit(post)).interrupt
    kept = await store.streams.interrupt(deposited.interrupt_id)
    assert kept == deposited
    for name in ("session_id", "source", "principal", "body", "delivery", "coalesce_key", "expire_time"):
        assert getattr(kept, name) == getattr(post, name)
    assert (kept.delivered, kept.seen, kept.settled) == (None, None, None)


async def test_every_kind_of_event_is_read_with_what_it_was_written_with(store: Store) -> None:
    session_id = await store.session()
    await store.nudge(session_id, "old", coalesce_key="k")
    nudge = await store.nudge(session_id, "new", coalesce_key="k")
    before = (await store.sessions.get(session_id)).session
    lease = await store.claim(session_id)
    await store.begin_turn(lease)
    await store.safe_points.begin_round(lease, 2, 1, admit_all)
    await store.transcript.see(lease, [nudge.interrupt_id])
    rows = [assistant("Let me see."), call("c1", arguments_json="{")]
    place = Place(1, 1, 1)
    written = await store.transcript.append_reply(lease, 2, place, rows, Usage())
    await store.transcript.start_tools(lease, place, [ToolCall("c1", "now", "{")])
    await store.transcript.append(lease, 4, place, [response("c1", "noon")], Usage())
    made = Compaction(summary("So far."), 4, place, terms(before), 7, True, Usage())
    compacted = await store.transcript.compact(lease, 5, made)
    await store.transcript.fail_round(
        lease, place, RoundFailure.BAD_REPLY, "it made\0no sense", Usage(), 3600
    )
    ended = (await store.sessions.end(session_id)).session

    happened = [event.happening for event in await store.streams.page(session_id, 0, 100)]

    assert {_kind(happening) for happening in happened} == set(EventType)
    assert [row.message for row in happened if isinstance(row, MessageAppended)][:2] == list(written)
    assert Compacted(compacted, 7, True) in happened
    assert TurnStarted(1) in happened
    assert RoundStarted(1, 1, 1) in happened
    assert ToolCallStarted(1, 1, "c1", "now") in happened
    (failed,) = (happening for happening in happened if isinstance(happening, RoundFailed))
    assert failed.retry_time
    assert failed == RoundFailed(1, 1, 1, RoundFailure.BAD_REPLY, "it made\ufffdno sense", failed.retry_time)
    assert timedelta(minutes=59) < failed.retry_time - datetime.now(UTC) < timedelta(minutes=61)
    assert happened[-2:] == [TurnEnded(1, TurnEnd.SESSION_ENDED), SessionChanged(ended)]


def _kind(happening: Happening) -> EventType:
    kinds = {
        SessionChanged: EventType.SESSION_CHANGED,
        TurnStarted: EventType.TURN_STARTED,
        RoundStarted: EventType.ROUND_STARTED,
        MessageAppended: EventType.MESSAGE_APPENDED,
        ToolCallStarted: EventType.TOOL_CALL_STARTED,
        RoundFailed: EventType.ROUND_FAILED,
        Compacted: EventType.COMPACTED,
        TurnEnded: EventType.TURN_ENDED,
    }
    return happening.type if isinstance(happening, InterruptChanged) else kinds[type(happening)]


async def test_an_interrupt_in_the_transcript_is_the_one_that_its_watchers_read(store: Store) -> None:
    session_id = await store.session()
    nudge = await store.nudge(session_id)
    work = await store.open_turn(session_id)
    row = (await store.load(work.lease)).rows[0]
    assert isinstance(row, Message)
    assert row.content == await store.streams.interrupt(nudge.interrupt_id)
    assert (row.message_id, row.position, row.source) == (nudge.interrupt_id, 1, "operator")
    assert nudge.state is InterruptState.PENDING


async def test_a_session_that_backs_off_says_until_when(store: Store) -> None:
    session_id = await store.session()
    work = await store.open_turn(session_id)
    await store.transcript.fail_round(
        work.lease, work.place, RoundFailure.MODEL_UNAVAILABLE, "HTTP 503", Usage(), pause_seconds=3600
    )
    reading = await store.sessions.get(session_id)
    assert reading.activity is Activity.BACKING_OFF
    assert reading.next_turn_time
    assert timedelta(minutes=59) < reading.next_turn_time - datetime.now(UTC) < timedelta(minutes=61)


async def test_only_a_session_that_will_go_on_by_itself_says_when(store: Store) -> None:
    works, waits = await store.session(), await store.session(SessionMode.ON_INTERRUPT)
    assert (await store.sessions.get(works)).next_turn_time
    await store.claim(works)
    assert (await store.sessions.get(works)).next_turn_time is None
    assert (await store.sessions.get(waits)).next_turn_time is None


@pytest.mark.parametrize("row", [{"turn": None}, {"turn": "1"}])
def test_a_column_that_is_not_what_the_schema_says_is_named(row: JsonObject) -> None:
    with pytest.raises(AssertionError, match=r"^turn is "):
        get(row, "turn", int)
