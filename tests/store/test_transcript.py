from dataclasses import replace

import pytest

from agent_service.domain import (
    Compacted,
    InterruptState,
    MessageType,
    NewMessage,
    Place,
    RoundFailure,
    SessionMode,
    Text,
    ToolCall,
    Usage,
)
from agent_service.errors import LeaseLost
from agent_service.store.transcript import Compaction, Handled
from tests.support import (
    Store,
    Work,
    assistant,
    call,
    deposit,
    in_order,
    response,
    summary,
    terms,
    user,
)


async def test_rows_get_positions_and_revisions_in_order(store: Store) -> None:
    session_id = await store.session()
    work = await store.open_turn(session_id)
    rows = await store.transcript.append_reply(
        work.lease, work.next_position, work.place, [assistant("Let me see."), call("a"), call("b")], Usage()
    )
    assert [row.position for row in rows] == [2, 3, 4]
    assert (await store.load(work.lease)).rows[1:] == rows
    assert (await store.kinds(session_id))[-3:] == ["message_appended"] * 3


async def test_an_answer_ends_the_turn_and_releases_in_one_statement(store: Store) -> None:
    session_id = await store.session()
    work = await store.open_turn(session_id)
    await store.transcript.append_answer(
        work.lease, work.next_position, work.place, [assistant("Done.")], Usage(10, 4, 3, 1)
    )
    assert (await store.kinds(session_id))[-2:] == ["message_appended", "turn_ended"]
    with pytest.raises(LeaseLost):
        await store.transcript.release(work.lease)
    reading = await store.sessions.get(session_id)
    assert reading.usage == Usage(10, 4, 3, 1)
    assert (await store.claim(session_id)).epoch > work.lease.epoch


async def test_what_postgresql_cannot_hold_is_replaced_alike_in_memory_and_in_the_database(
    store: Store,
) -> None:
    work = await store.open_turn(await store.session())
    strange = "a\0b\ud800c"
    reply = [
        NewMessage(MessageType.ASSISTANT, Text(strange), reasoning=strange),
        NewMessage(MessageType.TOOL_CALL, ToolCall(strange, strange, strange)),
    ]
    rows = await store.transcript.append_reply(work.lease, work.next_position, work.place, reply, Usage())
    assert (await store.load(work.lease)).rows[1:] == rows
    assert rows[0].reasoning == "a\ufffdb\ufffdc"


async def test_an_append_that_waits_for_the_lock_follows_the_deposit_made_meanwhile(store: Store) -> None:
    """Naive: allocate the revision from what was read before the wait."""
    session_id = await store.session()
    work = await store.open_turn(session_id)
    await in_order(
        store,
        session_id,
        lambda: store.nudge(session_id),
        lambda: store.transcript.append_reply(
            work.lease, work.next_position, work.place, [assistant("Still here."), call("a")], Usage()
        ),
    )
    kinds = await store.kinds(session_id)
    assert kinds[-3:] == ["interrupt_posted", "message_appended", "message_appended"]


async def test_an_append_that_waits_for_the_lock_writes_nothing_once_the_session_ended(store: Store) -> None:
    """Naive: compare the epoch before the wait, or not at all."""
    session_id = await store.session()
    work = await store.open_turn(session_id)
    _, refused = await in_order(
        store,
        session_id,
        lambda: store.sessions.end(session_id),
        lambda: store.transcript.append_reply(
            work.lease, work.next_position, work.place, [assistant("Too late.")], Usage()
        ),
    )
    assert isinstance(refused, LeaseLost)
    assert (await store.kinds(session_id))[-1] == "session_changed"


async def test_an_append_with_a_stale_view_of_the_transcript_is_refused(store: Store) -> None:
    work = await store.open_turn(await store.session())
    with pytest.raises(LeaseLost):
        await store.transcript.append(
            work.lease, work.next_position - 1, work.place, [user("Again.")], Usage()
        )


async def test_seeing_that_waits_for_the_lock_keeps_the_count_of_what_is_outstanding(store: Store) -> None:
    """Naive: write back a count that was read before the wait."""
    session_id = await store.session()
    nudge = await store.nudge(session_id)
    work = await store.open_turn(session_id)
    await in_order(
        store,
        session_id,
        lambda: store.nudge(session_id, "another"),
        lambda: store.transcript.see(work.lease, [nudge.interrupt_id]),
    )
    assert await store.outstanding(session_id) == 1
    assert (await store.kinds(session_id))[-2:] == ["interrupt_posted", "interrupt_seen"]


async def test_seeing_is_refused_once_the_session_ended_and_the_interrupt_stays_cancelled(
    store: Store,
) -> None:
    session_id = await store.session()
    nudge = await store.nudge(session_id)
    work = await store.open_turn(session_id)
    _, refused = await in_order(
        store,
        session_id,
        lambda: store.sessions.end(session_id),
        lambda: store.transcript.see(work.lease, [nudge.interrupt_id]),
    )
    assert isinstance(refused, LeaseLost)
    assert (await store.streams.interrupt(nudge.interrupt_id)).state is InterruptState.CANCELLED


@pytest.mark.parametrize("deposit_first", [True, False])
async def test_a_turn_that_ends_while_a_post_arrives_leaves_the_session_due(
    store: Store, deposit_first: bool
) -> None:
    """Naive: decide to sleep by what the messages held before the row lock was had."""
    session_id = await store.session(SessionMode.ON_INTERRUPT)
    nudge = await store.nudge(session_id)
    work = await store.open_turn(session_id)
    await store.transcript.see(work.lease, [nudge.interrupt_id])
    steps = [
        lambda: store.nudge(session_id, "one more"),
        lambda: store.transcript.append_answer(
            work.lease, work.next_position, work.place, [assistant("Done.")], Usage()
        ),
    ]
    await in_order(store, session_id, *(steps if deposit_first else steps[::-1]))
    await store.claim(session_id)


@pytest.mark.parametrize("deposit_first", [True, False])
async def test_a_turn_that_parks_while_a_post_arrives_leaves_the_session_due(
    store: Store, deposit_first: bool
) -> None:
    """Naive: park where the revision is still the one last read, which the worker's own writes raise."""
    session_id = await store.session()
    work = await store.open_turn(session_id)
    far = (await store.sessions.get(session_id)).session.create_time.replace(year=2199)
    steps = [lambda: store.nudge(session_id), lambda: store.transcript.park(work.lease, far)]
    await in_order(store, session_id, *(steps if deposit_first else steps[::-1]))
    await store.claim(session_id)


async def test_a_parked_turn_is_due_at_its_deadline_and_not_before(store: Store) -> None:
    session_id = await store.session()
    work = await store.open_turn(session_id)
    created = (await store.sessions.get(session_id)).session.create_time
    await store.transcript.park(work.lease, created.replace(year=2199))
    assert await store.leases.claim_due(await store.replica(), 10) == []
    async with store.database.connection() as connection:
        await connection.execute("UPDATE sessions SET due_at = now() WHERE session_id = $1", session_id)
    lease = await store.claim(session_id)
    assert (await store.load(lease)).turn_open


async def test_a_failed_round_is_told_and_keeps_the_session_back_for_a_while(store: Store) -> None:
    session_id = await store.session()
    work = await store.open_turn(session_id)
    await store.transcript.fail_round(
        work.lease, work.place, RoundFailure.MODEL_UNAVAILABLE, "HTTP 503", Usage(), pause_seconds=3600
    )
    await store.deposits.deposit(deposit(session_id))
    assert await store.leases.claim_due(await store.replica(), 10) == []
    assert (await store.kinds(session_id))[-2:] == ["round_failed", "interrupt_posted"]


async def test_the_newest_summary_stands_for_everything_that_it_covers(store: Store) -> None:
    work = await store.open_turn(await store.session())
    position = work.next_position
    for n in range(3):
        rows = [assistant(f"{n}"), call(f"{n}"), response(f"{n}")]
        await store.transcript.append_reply(work.lease, position, work.place, rows, Usage())
        position += 3
    summaries = [NewMessage(MessageType.SUMMARY, Text("old")), NewMessage(MessageType.SUMMARY, Text("new"))]
    written = await store.transcript.append(work.lease, position, work.place, summaries, Usage())
    async with store.database.connection() as connection:
        for row, covered in zip(written, (3, 7), strict=True):
            await connection.execute(
                "UPDATE messages SET covers_through_position = $2 WHERE message_id = $1",
                row.message_id,
                covered,
            )
    rows = (await store.load(work.lease)).rows
    assert [row.position for row in rows] == [position + 1, 8, 9, 10]


async def test_what_the_model_was_told_at_the_start_stays(store: Store) -> None:
    session_id = await store.session()
    work = await store.open_turn(session_id)
    snapshot = await store.load(work.lease)
    assert snapshot.terms == terms(snapshot.standing.session)
    assert snapshot.standing.place == Place(1, 1, 1)


# ---- compaction


async def compaction(store: Store, work: Work, text: str = "All is calm.", through: int = 1) -> Compaction:
    before = (await store.load(work.lease)).terms
    assert before
    after = replace(before, system_prompt="You are an agent with notes.", notes=("The key is red.",))
    return Compaction(summary(text), through, Place(1, 1, 1), after, 3, True, Usage(10, 4, 3, 1))


async def a_round(store: Store, work: Work) -> Work:
    """A reply with a call, and its response."""
    said = [assistant("Let me see."), call("a")]
    await store.transcript.append_reply(work.lease, work.next_position, work.place, said, Usage(500, 0, 20))
    position = work.next_position + 2
    await store.transcript.append(work.lease, position, work.place, [response("a")], Usage())
    return replace(work, next_position=position + 1)


async def test_a_summary_is_read_in_place_of_what_it_covers(store: Store) -> None:
    session_id = await store.session()
    work = await a_round(store, await store.open_turn(session_id))
    before = await store.load(work.lease)
    made = await compaction(store, work)
    row = await store.transcript.compact(work.lease, work.next_position, made)
    assert (row.position, row.covers_through_position) == (5, 1)
    after = await store.load(work.lease)
    assert after.rows == (row, *before.rows[1:])
    assert after.standing.next_position == 6
    assert await store.streams.messages(session_id, 0, 100, 10**6) == [*before.rows, row]


async def test_a_compaction_changes_what_the_turn_is_told_and_nothing_of_where_it_stands(
    store: Store,
) -> None:
    work = await a_round(store, await store.open_turn(await store.session()))
    before = await store.load(work.lease)
    made = await compaction(store, work)
    stood = before.standing
    assert (before.context_tokens, stood.tokens) == (520, 520)
    row = await store.transcript.compact(work.lease, work.next_position, made)
    after = await store.load(work.lease)
    assert after == replace(
        before,
        standing=replace(stood, session=after.standing.session, next_position=6, tokens=533),
        terms=made.terms,
        context_tokens=0,
        rows=(row, *before.rows[1:]),
    )


async def test_a_compaction_is_one_fact_with_what_no_row_keeps(store: Store) -> None:
    session_id = await store.session()
    work = await a_round(store, await store.open_turn(session_id))
    row = await store.transcript.compact(work.lease, work.next_position, await compaction(store, work))
    assert (await store.kinds(session_id))[-2:] == ["message_appended", "compacted"]
    (*_, last) = await store.streams.page(session_id, 0, 100)
    assert last.happening == Compacted(row, 3, True)
    assert (await store.sessions.get(session_id)).usage == Usage(510, 4, 23, 1)


async def test_one_summary_after_another_stands_for_all_before_it(store: Store) -> None:
    work = await a_round(store, await store.open_turn(await store.session()))
    first = await store.transcript.compact(work.lease, 5, await compaction(store, work, "Day 1.", 1))
    assert [row.position for row in (await store.load(work.lease)).rows] == [5, 2, 3, 4]
    second = await store.transcript.compact(work.lease, 6, await compaction(store, work, "Day 2.", 4))
    assert (await store.load(work.lease)).rows == (second,)
    assert first.position < second.position


async def test_a_summary_is_stored_without_what_cannot_be(store: Store) -> None:
    work = await store.open_turn(await store.session())
    made = await compaction(store, work, "a\0b\ud800c")
    row = await store.transcript.compact(work.lease, work.next_position, made)
    assert row.content == Text("a\ufffdb\ufffdc")
    assert (await store.load(work.lease)).rows == (row,)


async def test_a_compaction_with_a_stale_view_of_the_transcript_changes_nothing(store: Store) -> None:
    work = await a_round(store, await store.open_turn(await store.session()))
    before = await store.load(work.lease)
    with pytest.raises(LeaseLost):
        await store.transcript.compact(work.lease, work.next_position - 1, await compaction(store, work))
    assert await store.load(work.lease) == before


async def test_a_compaction_that_waits_for_the_lock_writes_nothing_once_the_session_ended(
    store: Store,
) -> None:
    session_id = await store.session()
    work = await a_round(store, await store.open_turn(session_id))
    made = await compaction(store, work)
    _, refused = await in_order(
        store,
        session_id,
        lambda: store.sessions.end(session_id),
        lambda: store.transcript.compact(work.lease, work.next_position, made),
    )
    assert isinstance(refused, LeaseLost)
    assert "compacted" not in await store.kinds(session_id)


async def test_a_compaction_that_waits_for_the_lock_follows_the_deposit_made_meanwhile(store: Store) -> None:
    session_id = await store.session()
    work = await a_round(store, await store.open_turn(session_id))
    made = await compaction(store, work)
    await in_order(
        store,
        session_id,
        lambda: store.nudge(session_id),
        lambda: store.transcript.compact(work.lease, work.next_position, made),
    )
    assert (await store.kinds(session_id))[-2:] == ["interrupt_posted", "compacted"]
    assert await store.outstanding(session_id) == 1


async def test_the_handled_are_those_up_to_a_position_the_newest_in_detail(store: Store) -> None:
    session_id = await store.session()
    nudges = [await store.nudge(session_id, source=f"service:s{n}") for n in range(5)]
    await store.open_turn(session_id)
    other = await store.session()
    await store.nudge(other)
    await store.open_turn(other)
    await store.nudge(session_id, "still pending")
    listed = [(nudge.source, nudge.posted.time) for nudge in nudges]
    handled = store.transcript.handled
    assert await handled(session_id, 6, 10) == Handled(5, tuple(listed))
    assert await handled(session_id, 4, 2) == Handled(4, tuple(listed[2:4]))
    assert await handled(session_id, 0, 10) == Handled(0, ())
