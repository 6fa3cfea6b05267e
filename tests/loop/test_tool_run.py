"""The calls of one reply, side by side: what is started, answered, skipped and cancelled."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import pytest

from agent_service.domain import Delivery, JsonObject, MessageAppended, SessionId, ToolResponse, Usage
from agent_service.errors import LeaseLost, Unavailable
from agent_service.loop import tool_run
from agent_service.loop.interruption import Interruption
from agent_service.loop.tool_run import CANCELLED, MAX_PARALLEL, SKIPPED, ToolRun
from agent_service.loop.work import Work
from agent_service.model import ToolSpec
from agent_service.tools import Tool, Toolbox, ToolContext, ToolOutcome, Traits
from tests.support import Store, call, in_place, open_store, until, until_blocked
from tests.tools.held import Held

CANCELLABLE = Traits(cancellable=True)
# Only hints wake what waits here.
NEVER_SECONDS = 3600


class Act:
    """A tool that does what the test says, and says what came of it."""

    traits = Traits()

    def __init__(self, name: str, act: Callable[[], Awaitable[object]]) -> None:
        self.spec, self._act = ToolSpec(name, "", {"type": "object"}), act

    async def call(self, arguments: JsonObject, context: ToolContext) -> ToolOutcome:
        return ToolOutcome(str(await self._act()))


@dataclass
class Reply:
    """A session whose model has called each of some tools, in order, by a call of the tool's name."""

    store: Store
    session_id: SessionId
    toolbox: Toolbox
    work: Work

    def start(self, max_bytes: int | None = None) -> asyncio.Task[None]:
        store = self.store
        interruption = Interruption(store.safe_points, store.wakeups, NEVER_SECONDS)
        run = ToolRun(store.transcript, store.safe_points, self.toolbox, store.wakeups, interruption)
        return asyncio.create_task(run.run(self.work, self.work.open_calls, max_bytes))

    async def interrupt(self, delivery: Delivery = Delivery.IMMEDIATE) -> None:
        await self.store.nudge(self.session_id, "Stop.", delivery=delivery)

    async def next_holder(self) -> Work:
        return Work.of(self.work.lease, await self.store.load(self.work.lease), self.toolbox, in_place)

    async def answers(self) -> list[tuple[str, str]]:
        """The responses in the transcript, by call and content."""
        rows = [row.content for row in (await self.next_holder()).rows]
        return [(row.call_id, row.content) for row in rows if isinstance(row, ToolResponse)]

    async def until_answered(self, *call_ids: str) -> None:
        """Wait until just these calls are answered, in this order."""

        async def answered() -> bool:
            return [call_id for call_id, _ in await self.answers()] == list(call_ids)

        await until(answered)


async def reply(store: Store, tools: Sequence[Tool]) -> Reply:
    session_id, names = await store.session(), [tool.spec.name for tool in tools]
    toolbox = Toolbox(tools, max_output_bytes=1000, timeout_seconds=NEVER_SECONDS)
    turn = await store.open_turn(session_id)
    rows = [call(name, name) for name in names]
    await store.transcript.append_reply(turn.lease, turn.next_position, turn.place, rows, Usage())
    work = Work.of(turn.lease, await store.load(turn.lease), toolbox, in_place)
    work.offered = toolbox.specs(names)
    return Reply(store, session_id, toolbox, work)


def done(*tools: Held) -> list[tuple[str, str]]:
    return [(tool.spec.name, f"{tool.spec.name} is done") for tool in tools]


async def started(*tools: Held) -> None:
    await asyncio.gather(*(tool.started.wait() for tool in tools))


async def let_go(*tools: Held) -> None:
    for tool in tools:
        tool.let_go.set()
    await asyncio.gather(*(tool.stopped.wait() for tool in tools))


def let_go_soon(tool: Held) -> None:
    """Late enough for whoever does not wait for the tool to be seen doing so."""
    asyncio.get_running_loop().call_later(0.05, tool.let_go.set)


@asynccontextmanager
async def session_locked(asked: Reply) -> AsyncIterator[None]:
    """Every write to the session waits meanwhile."""
    async with asked.store.own_connection() as holder, holder.transaction():
        await holder.execute("SELECT FROM sessions WHERE session_id = $1 FOR UPDATE", asked.session_id)
        yield


async def test_tools_run_side_by_side_and_each_is_answered_as_soon_as_it_is_done(store: Store) -> None:
    a, b = Held("a"), Held("b")
    asked = await reply(store, [a, b])
    running = asked.start()
    await started(a, b)
    await let_go(b)
    await asked.until_answered("b")
    assert a.runs
    await let_go(a)
    await running
    assert await asked.answers() == done(b, a)
    assert asked.work.open_calls == []


async def test_what_the_holder_knows_afterwards_is_what_the_next_one_finds(store: Store) -> None:
    a, b = Held("a"), Held("b")
    asked = await reply(store, [a, b])
    running = asked.start()
    await let_go(b, a)
    await running
    found = await asked.next_holder()
    assert asked.work.messages() == found.messages()
    assert asked.work.next_position == found.next_position


async def test_a_start_is_committed_before_the_tool_runs(store: Store) -> None:
    async def kinds() -> int:
        return (await store.kinds(asked.session_id)).count("tool_call_started")

    asked = await reply(store, [Act("a", kinds), Act("b", kinds)])
    await asked.start()
    assert sorted(await asked.answers()) == [("a", "2"), ("b", "2")]


async def test_so_many_run_at_a_time_and_the_next_starts_when_one_is_done(store: Store) -> None:
    tools = [Held(f"t{n:02}") for n in range(MAX_PARALLEL + 2)]
    first, (ninth, tenth) = tools[:MAX_PARALLEL], tools[MAX_PARALLEL:]
    asked = await reply(store, tools)
    running = asked.start()
    await started(*first)
    await let_go(first[3])
    await started(ninth)
    assert not tenth.started.is_set()
    assert (await store.kinds(asked.session_id)).count("tool_call_started") == MAX_PARALLEL + 1
    await let_go(first[0])
    await started(tenth)
    for tool in tools:
        tool.let_go.set()
    await running
    assert asked.work.open_calls == []


async def test_what_is_done_at_the_same_time_is_appended_at_once_in_the_order_of_the_calls(
    store: Store,
) -> None:
    a, b, c = Held("a"), Held("b"), Held("c")
    asked = await reply(store, [a, b, c])
    running = asked.start()
    await started(a, b, c)
    async with session_locked(asked):
        await let_go(c)
        await until_blocked(store)
        await let_go(b)
        await let_go(a)
    await running
    assert await asked.answers() == done(c, a, b)
    events = await store.streams.page(asked.session_id, 0, 100)
    times = [event.create_time for event in events if isinstance(event.happening, MessageAppended)][-3:]
    assert times[0] < times[1] == times[2]


async def test_a_response_is_cut_at_what_the_caller_has_room_for(store: Store) -> None:
    a = Held("a")
    asked = await reply(store, [a])
    a.let_go.set()
    await asked.start(max_bytes=1)
    assert await asked.answers() == [("a", "a\n[cut here: 9 bytes, of which 1 are shown]")]


async def test_an_interrupt_that_waits_before_anything_is_started_skips_every_call(store: Store) -> None:
    a, b = Held("a"), Held("b")
    asked = await reply(store, [a, b])
    await asked.interrupt()
    await asked.start()
    assert await asked.answers() == [("a", SKIPPED), ("b", SKIPPED)]
    assert "tool_call_started" not in await store.kinds(asked.session_id)
    assert all(row.content.is_error for row in asked.work.rows if isinstance(row.content, ToolResponse))


async def test_an_interrupt_cancels_what_lets_itself_be_cancelled_and_waits_for_the_rest(
    store: Store,
) -> None:
    quick, slow = Held("quick", CANCELLABLE), Held("slow")
    asked = await reply(store, [quick, slow])
    running = asked.start()
    await started(quick, slow)
    await asked.interrupt()
    await asked.until_answered("quick")
    assert quick.cancelled.is_set()
    assert slow.runs
    await let_go(slow)
    await running
    assert await asked.answers() == [("quick", CANCELLED), *done(slow)]


async def test_an_interrupt_skips_what_has_not_been_started_at_once(store: Store) -> None:
    tools = [Held(f"t{n:02}") for n in range(MAX_PARALLEL + 2)]
    asked = await reply(store, tools)
    running = asked.start()
    await started(*tools[:MAX_PARALLEL])
    await asked.interrupt()
    await asked.until_answered("t08", "t09")
    for tool in tools:
        tool.let_go.set()
    await running
    assert (await asked.answers())[:2] == [("t08", SKIPPED), ("t09", SKIPPED)]
    assert not any(tool.started.is_set() for tool in tools[MAX_PARALLEL:])


async def test_nothing_is_started_after_an_interrupt_was_posted_where_no_hint_comes_from(
    store: Store,
) -> None:
    tools = [Held(f"t{n:02}") for n in range(MAX_PARALLEL + 1)]
    asked = await reply(store, tools)
    running = asked.start()
    await started(*tools[:MAX_PARALLEL])
    async with open_store(store.database) as elsewhere:
        await elsewhere.nudge(asked.session_id, "Stop.", delivery=Delivery.IMMEDIATE)
    await let_go(tools[0])

    async def answered() -> bool:
        # In any order: the first look for interrupts may be so late that it finds this one.
        return sorted(call_id for call_id, _ in await asked.answers()) == ["t00", "t08"]

    await until(answered)
    await let_go(*tools[:MAX_PARALLEL])
    await running
    assert not tools[MAX_PARALLEL].started.is_set()


async def test_other_interrupts_skip_and_cancel_nothing(store: Store) -> None:
    a = Held("a", CANCELLABLE)
    asked = await reply(store, [a])
    await asked.interrupt(Delivery.NEXT_ROUND)
    running = asked.start()
    await started(a)
    await asked.interrupt(Delivery.NEXT_TURN)
    await let_go(a)
    await running
    assert await asked.answers() == done(a)


async def test_an_interrupt_that_the_last_safe_point_left_waiting_skips_nothing(store: Store) -> None:
    a = Held("a", CANCELLABLE)
    asked = await reply(store, [a])
    await asked.interrupt()
    asked.work.revision = (await store.sessions.get(asked.session_id)).session.revision
    running = asked.start()
    await started(a)
    await asked.interrupt(Delivery.NEXT_ROUND)
    await let_go(a)
    await running
    assert await asked.answers() == done(a)


@pytest.mark.parametrize("interrupted", [False, True])
async def test_the_end_of_the_session_stops_every_tool(store: Store, interrupted: bool) -> None:
    a, b = Held("a"), Held("b", CANCELLABLE)
    asked = await reply(store, [a, b])
    running = asked.start()
    await started(a, b)
    if interrupted:
        await asked.interrupt()
        await asked.until_answered("b")
    await store.sessions.end(asked.session_id)
    with pytest.raises(LeaseLost):
        await running
    assert not a.runs
    assert not b.runs
    assert (await store.kinds(asked.session_id))[-1] == "session_changed"


async def test_a_write_whose_outcome_is_unknown_stops_every_tool(store: Store) -> None:
    a, b = Held("a"), Held("b")
    asked = await reply(store, [a, b])
    running = asked.start()
    await started(a, b)
    async with session_locked(asked):
        await let_go(a)
        await until_blocked(store)
        async with store.own_connection() as administrator:
            await administrator.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE wait_event_type = 'Lock' AND datname = current_database()"
            )
        with pytest.raises(Unavailable):
            await running
    assert not b.runs
    assert await asked.answers() == []


async def test_a_run_that_is_cancelled_appends_nothing_and_ends_when_its_tools_have(store: Store) -> None:
    a, b = Held("a"), Held("b", stubborn=True)
    asked = await reply(store, [a, b])
    running = asked.start()
    await started(a, b)
    for _ in range(2):
        running.cancel()
        await b.cancelled.wait()
    let_go_soon(b)
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not a.runs
    assert not b.runs
    assert await asked.answers() == []


async def test_a_tool_that_an_interrupt_cancelled_has_its_time_to_stop_when_the_run_is_cancelled_too(
    store: Store,
) -> None:
    a = Held("a", CANCELLABLE, stubborn=True)
    asked = await reply(store, [a])
    running = asked.start()
    await started(a)
    await asked.interrupt()
    await a.cancelled.wait()
    running.cancel()
    let_go_soon(a)
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not a.runs


async def test_what_meets_a_time_limit_of_its_own_at_the_moment_of_the_end_is_stopped_too() -> None:
    limits = asyncio.Queue[asyncio.Timeout]()

    async def patient() -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(None) as limit:
                limits.put_nowait(limit)
                await asyncio.Event().wait()
        await asyncio.Event().wait()

    task, loop = asyncio.create_task(patient()), asyncio.get_running_loop()
    (await limits.get()).reschedule(0)
    await asyncio.sleep(0)
    assert task.cancelling()
    rescue = loop.call_later(10, task.cancel)
    await tool_run._stop({task}, cancelled=())
    assert loop.time() < rescue.when()
    rescue.cancel()
