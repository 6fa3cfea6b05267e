import pytest

from agent_service.domain import (
    Event,
    EventType,
    Interrupt,
    InterruptChanged,
    InterruptState,
    MessageId,
    Usage,
    new_id,
)
from agent_service.errors import InterruptNotFound
from tests.support import Store, assistant


async def test_an_event_shows_its_row_as_of_its_own_revision(store: Store) -> None:
    session_id = await store.session()
    nudge = await store.nudge(session_id)
    work = await store.open_turn(session_id)
    await store.transcript.see(work.lease, [nudge.interrupt_id])
    shown = {
        event.happening.type: event.happening.interrupt
        for event in await store.streams.page(session_id, 0, 100)
        if isinstance(event.happening, InterruptChanged)
    }
    posted = shown[EventType.INTERRUPT_POSTED]
    delivered = shown[EventType.INTERRUPT_DELIVERED]
    seen = shown[EventType.INTERRUPT_SEEN]
    assert posted == nudge
    assert (posted.state, posted.position, posted.turn) == (InterruptState.PENDING, 0, 0)
    assert (delivered.state, delivered.position, delivered.turn) == (InterruptState.DELIVERED, 1, 1)
    assert seen.state is InterruptState.SEEN
    assert seen == await store.streams.interrupt(nudge.interrupt_id)


async def test_pages_read_one_after_another_are_the_whole_without_gap_or_double(store: Store) -> None:
    session_id = await store.session()
    for n in range(10):
        await store.nudge(session_id, str(n))
    whole = await store.streams.page(session_id, 0, 100)
    paged: list[Event] = []
    while page := await store.streams.page(session_id, paged[-1].revision if paged else 0, 3):
        paged += page
    assert paged == whole
    assert [event.revision for event in whole] == list(range(1, 12))


async def test_events_read_later_equal_those_read_at_once(store: Store) -> None:
    session_id = await store.session()
    live: list[Event] = []

    async def follow() -> None:
        live.extend(await store.streams.page(session_id, live[-1].revision if live else 0, 100))

    nudge = await store.nudge(session_id)
    await follow()
    work = await store.open_turn(session_id)
    await follow()
    await store.transcript.see(work.lease, [nudge.interrupt_id])
    await follow()
    await store.transcript.append_answer(
        work.lease, work.next_position, work.place, [assistant("Done.")], Usage()
    )
    await store.sessions.end(session_id)
    await follow()
    assert live == await store.streams.page(session_id, 0, 100)


async def test_a_session_is_found_at_its_holder_as_long_as_that_has_its_lease(store: Store) -> None:
    session_id, replica = await store.session(), await store.replica(address="agent-1:50051")
    assert await store.streams.holder_address(session_id) is None
    await store.leases.claim_due(replica, 1)
    assert await store.streams.holder_address(session_id) == "agent-1:50051"
    await store.leases.sign_off(replica)
    assert await store.streams.holder_address(session_id) is None


async def test_an_unknown_interrupt_is_named(store: Store) -> None:
    with pytest.raises(InterruptNotFound):
        await store.streams.interrupt(MessageId(new_id()))


MANY = 1024 * 1024


async def test_the_rows_of_a_transcript_are_read_by_position_without_what_has_none(store: Store) -> None:
    session_id = await store.session()
    nudge = await store.nudge(session_id)
    work = await store.open_turn(session_id)
    await store.nudge(session_id, "pending")
    rows = [assistant("First."), assistant("Second.")]
    await store.transcript.append_reply(work.lease, work.next_position, work.place, rows, Usage())
    whole = await store.streams.messages(session_id, 0, 100, MANY)
    assert [row.position for row in whole] == [1, 2, 3, 4]
    assert whole[0].message_id == nudge.interrupt_id
    assert isinstance(whole[0].content, Interrupt)
    paged = await store.streams.messages(session_id, 0, 3, MANY)
    paged += await store.streams.messages(session_id, paged[-1].position, 3, MANY)
    assert paged == whole


@pytest.mark.parametrize(
    ("sizes", "read"),
    [((9, 9, 9), 3), ((1, 10, 1, 1), 3), ((5, 5, 5), 3), ((99, 1, 1), 2), ((6, 6, 6, 6), 3)],
)
async def test_of_rows_that_are_too_long_together_one_more_is_read(
    store: Store, sizes: tuple[int, ...], read: int
) -> None:
    """One more tells that there are more."""
    session_id = await store.session()
    work = await store.open_turn(session_id)
    rows = [assistant("x" * size) for size in sizes]
    await store.transcript.append_reply(work.lease, work.next_position, work.place, rows, Usage())
    page = await store.streams.messages(session_id, work.next_position - 1, 100, 10)
    assert len(page) == read


async def test_of_events_that_are_too_long_together_the_page_ends_with_the_one_that_is_too_much(
    store: Store,
) -> None:
    session_id = await store.session()
    work = await store.open_turn(session_id)
    before = len(await store.kinds(session_id))
    rows = [assistant("x" * size) for size in (4, 4, 4, 4)]
    await store.transcript.append_reply(work.lease, work.next_position, work.place, rows, Usage())
    assert len(await store.streams.page(session_id, before, 100, max_bytes=10)) == 3
    assert len(await store.streams.page(session_id, before, 100)) == 4
