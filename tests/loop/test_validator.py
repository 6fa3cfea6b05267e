"""The judge of random schedules finds what is wrong: the product is broken in one place at a time."""

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import count
from types import ModuleType

import pytest

from agent_service.domain import (
    Delivery,
    Deposit,
    Fact,
    Interrupt,
    InterruptState,
    Message,
    MessageId,
    Portion,
    RoundFailure,
    SessionConfig,
    SessionId,
    SessionMode,
    SessionReading,
    Speaker,
    ToolResponse,
    new_id,
)
from agent_service.loop import compaction, conversation
from agent_service.loop.asker import Asker
from agent_service.loop.frame import frame
from agent_service.loop.tool_run import SKIPPED, ToolRun
from agent_service.loop.window import Window
from agent_service.loop.work import Work
from agent_service.model import Reply
from agent_service.store import leases, safe_points, sessions, transcript
from agent_service.store.deposit_book import deposited
from agent_service.store.deposits import Deposited, Deposits
from agent_service.store.sessions import Sessions
from tests.loop.schedules.plan import (
    Barge,
    Blow,
    Calls,
    Cut,
    Deed,
    Fails,
    Fault,
    Play,
    Post,
    Run,
    Says,
    SaysNothing,
    Schedule,
)
from tests.loop.schedules.validator import violations
from tests.loop.schedules.world import played
from tests.support import Store

NEXT_TURN, IMMEDIATE = Post(Delivery.NEXT_TURN), Post(Delivery.IMMEDIATE)
LONG = Post(bytes=400)

# Something of everything that may go wrong without the session's end.
STORY = Schedule(
    runs=(
        Run((Post(), Post(source="service:a"), NEXT_TURN), Fault(3, Cut.DIES_BEFORE)),
        Run((LONG, LONG, LONG, LONG)),
        Run((Post(), Deed.PAUSE), Fault(5, Cut.COMMITTED)),
        Run((Post(expires=True), Deed.EXPIRE, Deed.RESUME, Deed.PASS_TIME)),
        Run((Post(coalesced=True), Post(coalesced=True), Deed.PASS_TIME), Fault(3, Cut.HANGS_AND_LANDS)),
        Run((Post(), Deed.WITHDRAW, Deed.PASS_TIME)),
        *(Run((Post(), Deed.PASS_TIME)) for _ in range(4)),
    ),
    agent=(
        Play(Calls(("act", "again", "note"), says=True), after=(Post(), NEXT_TURN, Post())),
        Play(Fails(RoundFailure.MODEL_UNAVAILABLE), before=(Post(),)),
        Play(before=(Barge(),)),
        Play(Calls(("soft", "now")), after=(IMMEDIATE,)),
        Play(Calls(("act", "wait")), after=(NEXT_TURN,)),
        Play(Says(2000), before=(Post(), Blow.LAPSE)),
        Play(Says(400)),
        Play(SaysNothing(), before=(Post(),)),
        Play(Calls(("wait",))),
        Play(Says(400)),
        Play(Calls(("now", "act"))),
        Play(Says(), before=(Post(bytes=2000),)),
    ),
    voice=(Play(before=(Blow.DIE,)), Play(Says(), before=(Barge(),)), Play(Says())),
    summaries=(Play(Says(400), before=(Post(),)),),
    tools=((Post(),), (), (IMMEDIATE,)),
    window=1200,
)
# To a session that does nothing by itself.
POSTS = Schedule((Run((Post(), Post())),), config=SessionConfig("scripted", mode=SessionMode.ON_INTERRUPT))
# Ends in the middle of a reply, with something of every state.
THE_END = Schedule(
    runs=(Run((Post(),)),),
    agent=(Play(Calls(("act",))), Play(Says(), before=(Post(), Deed.END))),
    tools=((Post(), NEXT_TURN),),
)

# What was delivered has to be shown shorter, twice, while more waits.
TOO_LONG = Schedule(
    runs=(Run((LONG, LONG, LONG, LONG, LONG)),),
    agent=(*[Play(Fails(RoundFailure.CONTEXT_OVERFLOW), after=(Post(),))] * 2, Play(Calls(("now",)))),
    window=2400,
)


@pytest.mark.parametrize("schedule", [STORY, POSTS, THE_END, TOO_LONG])
async def test_nothing_is_wrong_with_the_product_as_it_is(store: Store, schedule: Schedule) -> None:
    assert violations(await played(store, schedule)) == []


# ---- the product with one thing wrong


class Breaker:
    """Breaks a part of the product, for one test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    def words(self, module: ModuleType, name: str, said: str, instead: str) -> None:
        """A statement says something else."""
        statement = getattr(module, name)
        assert said in statement
        self._monkeypatch.setattr(module, name, statement.replace(said, instead))

    def part(self, owner: object, name: str, instead: object) -> None:
        """A function or a constant is another."""
        self._monkeypatch.setattr(owner, name, instead)


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Breaker:
    return Breaker(monkeypatch)


async def broken_invariants(store: Store, schedule: Schedule = STORY) -> set[int]:
    return {number for number, _ in violations(await played(store, schedule))}


async def test_1_an_acknowledgement_without_a_commit(store: Store, broken: Breaker) -> None:
    async def acknowledge(self: Deposits, group: Sequence[Deposit]) -> Sequence[Deposited]:
        posted = Fact(datetime.now(UTC), 1)
        return [Deposited(deposited(MessageId(new_id()), one, posted), duplicate=False) for one in group]

    broken.part(Deposits, "_append", acknowledge)
    assert 1 in await broken_invariants(store, POSTS)


async def test_2_a_delivery_that_is_made_again(store: Store, broken: Breaker) -> None:
    broken.words(safe_points, "WAITING_OF_MODES", "position IS NULL", "seen_at IS NULL")
    assert 2 in await broken_invariants(store)


async def test_2_a_delivery_in_another_order(store: Store, broken: Breaker) -> None:
    broken.words(safe_points, "WAITING_OF_MODES", "ORDER BY posted_revision", "ORDER BY posted_revision DESC")
    assert 2 in await broken_invariants(store)


async def test_2_a_delivery_in_the_middle_of_a_turn_of_what_waits_for_the_next(
    store: Store, broken: Breaker
) -> None:
    broken.part(safe_points, "NEXT_ROUND_MODES", frozenset(Delivery))
    assert 2 in await broken_invariants(store)


async def test_2_a_delivery_of_more_than_there_is_room_for(store: Store, broken: Breaker) -> None:
    broken.part(Window, "portion", lambda self, due, unanswered, tag: Portion(len(due)))
    assert 2 in await broken_invariants(store)


async def test_2_a_delivery_of_less_than_there_is_room_for(store: Store, broken: Breaker) -> None:
    broken.part(Window, "portion", lambda self, due, unanswered, tag: Portion(0 if unanswered else 1))
    assert 2 in await broken_invariants(store)


async def test_3_a_call_that_is_skipped_without_a_response(store: Store, broken: Breaker) -> None:
    right = ToolRun._append

    async def append(self: ToolRun, work: Work, responses: Sequence[ToolResponse]) -> None:
        await right(self, work, [response for response in responses if response.content != SKIPPED])

    broken.part(ToolRun, "_append", append)
    assert 3 in await broken_invariants(store)


async def test_4_a_position_that_is_given_on_arrival(store: Store, broken: Breaker) -> None:
    right = Deposits.deposit

    async def deposit(self: Deposits, asked: Deposit) -> Deposited:
        deposited = await right(self, asked)
        async with store.database.transaction() as connection:
            next_position = await connection.fetchval(
                "UPDATE sessions SET next_position = next_position + 1 RETURNING next_position"
            )
            await connection.execute(
                "UPDATE messages SET position = $2 WHERE message_id = $1",
                deposited.interrupt.interrupt_id,
                next_position - 1,
            )
        return deposited

    broken.part(Deposits, "deposit", deposit)
    assert 4 in await broken_invariants(store, POSTS)


async def test_4_an_interrupt_that_looks_different_each_time(store: Store, broken: Breaker) -> None:
    numbers = count()

    def numbered(interrupt: Interrupt, tag: str) -> str:
        return frame(interrupt, tag).replace("[#", f"({next(numbers)}) [#")

    broken.part(conversation, "frame", numbered)
    assert 4 in await broken_invariants(store)


async def test_4_a_request_that_leaves_something_out(store: Store, broken: Breaker) -> None:
    right = Work.messages_of
    broken.part(Work, "messages_of", lambda self, rows: right(self, rows)[:1] + right(self, rows)[2:])
    assert 4 in await broken_invariants(store)


async def test_5_a_reading_by_the_inner_voice_that_counts_as_seeing(store: Store, broken: Breaker) -> None:
    right = Asker.reply

    async def reply(self: Asker, work: Work, speaker: Speaker) -> Reply:
        if work.unseen and speaker is Speaker.INNER_VOICE:
            await self._see(work)
        return await right(self, work, speaker)

    broken.part(Asker, "reply", reply)
    assert 5 in await broken_invariants(store)


async def test_5_a_reading_that_is_not_stamped(store: Store, broken: Breaker) -> None:
    async def see(self: Asker, work: Work) -> None:
        work.unseen.clear()

    broken.part(Asker, "_see", see)
    assert {2, 5} <= await broken_invariants(store)


async def test_6_a_write_without_a_look_at_the_epoch(store: Store, broken: Breaker) -> None:
    broken.words(transcript, "_SEE", "lease_epoch = $2", "lease_epoch >= $2")
    assert 6 in await broken_invariants(store)


async def test_6_a_claim_that_keeps_the_epoch(store: Store, broken: Breaker) -> None:
    broken.words(leases, "_CLAIM_OWN", "lease_epoch = lease_epoch + 1", "lease_epoch = lease_epoch")
    assert 6 in await broken_invariants(store)


async def test_7_a_revision_without_an_event(store: Store, broken: Breaker) -> None:
    broken.words(transcript, "_FAIL_ROUND", "revision = revision + 1", "revision = revision + 2")
    assert 7 in await broken_invariants(store)


async def test_7_an_event_that_changes_after_it_was_shown(store: Store, broken: Breaker) -> None:
    broken.part(Interrupt, "as_of", lambda self, revision: self)
    assert 7 in await broken_invariants(store)


async def test_8_a_count_that_does_not_go_down(store: Store, broken: Breaker) -> None:
    broken.words(transcript, "_SEE", "outstanding - cardinality($3::uuid[])", "outstanding")
    assert 8 in await broken_invariants(store)


async def test_8_a_session_that_nobody_takes_though_something_waits(store: Store, broken: Breaker) -> None:
    broken.words(leases, "_CLAIM_DUE", "outstanding > 0", "outstanding < 0")
    assert 8 in await broken_invariants(store, POSTS)


async def test_9_a_compaction_that_covers_everything(store: Store, broken: Breaker) -> None:
    right = compaction.covered_rows

    def cover(rows: Sequence[Message], keep_reply: bool = True) -> int:
        return len(rows) if right(rows, keep_reply) else 0

    broken.part(compaction, "covered_rows", cover)
    assert 9 in await broken_invariants(store)


async def test_10_a_pause_that_drops_what_waits(store: Store, broken: Breaker) -> None:
    right = Sessions.pause

    async def pause(self: Sessions, session_id: SessionId) -> SessionReading:
        for waiting in await store.interrupts.page(session_id, 0, 100, [InterruptState.PENDING]):
            await store.interrupts.cancel(waiting.interrupt_id)
        return await right(self, session_id)

    broken.part(Sessions, "pause", pause)
    assert 10 in await broken_invariants(store)


async def test_10_an_end_that_leaves_something_outstanding(store: Store, broken: Breaker) -> None:
    broken.words(sessions, "_OUTSTANDING", "seen_at IS NULL", "position IS NULL")
    assert 2 in await broken_invariants(store, THE_END)


async def test_12_a_turn_that_goes_on_without_its_inner_voice(store: Store, broken: Breaker) -> None:
    broken.part(Work, "voice_has_spoken", property(lambda self: True))
    assert 12 in await broken_invariants(store)
