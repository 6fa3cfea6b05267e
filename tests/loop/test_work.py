"""A session in its holder's hands, beside what the next holder would find in the database."""

import json
from collections.abc import Sequence

import pytest

from agent_service.domain import (
    JsonObject,
    Lease,
    MessageType,
    NewMessage,
    SessionId,
    Text,
    ToolCall,
    ToolResponse,
    Usage,
)
from agent_service.loop.work import Work
from agent_service.model import ToolSpec
from agent_service.store.safe_points import SafePoint
from agent_service.tools import Tool, Toolbox, ToolContext, ToolOutcome, Traits
from agent_service.tools.builtin import builtin_tools
from tests.support import Store, assistant, call, in_place, response, user


class Light:
    """A tool whose schema is written in an order that nobody would sort it into."""

    traits = Traits()
    spec = ToolSpec(
        "light",
        "Lights the lamp.",
        {"title": "L", "type": "object", "properties": {"where": {}, "at": {}}, "a": 1.0},
    )

    async def call(self, arguments: JsonObject, context: ToolContext) -> ToolOutcome:
        return ToolOutcome("It burns.")


def toolbox(*tools: Tool) -> Toolbox:
    return Toolbox(tools or (Light(), *builtin_tools()), max_output_bytes=1000, timeout_seconds=60)


async def hold(store: Store, lease: Lease, tools: Toolbox) -> Work:
    return Work.of(lease, await store.load(lease), tools, in_place)


async def begin_turn(store: Store, session_id: SessionId) -> Work:
    work = await hold(store, await store.claim(session_id), toolbox())
    enter(work, await store.begin_turn(work.lease, work.next_terms, work.admit))
    return work


async def begin_round(store: Store, work: Work) -> None:
    enter(
        work, await store.safe_points.begin_round(work.lease, work.next_position, work.next_round, work.admit)
    )


def enter(work: Work, point: SafePoint | None) -> None:
    assert point
    work.enter(point)


async def append(store: Store, work: Work, *rows: NewMessage) -> None:
    work.append(await store.transcript.append(work.lease, work.next_position, work.place, rows, Usage()))


async def assert_a_rebuild_is_the_same(store: Store, work: Work) -> None:
    rebuilt = await hold(store, work.lease, toolbox(Light()))
    assert json.dumps(work.messages()) == json.dumps(rebuilt.messages())
    for name in ("place", "next_position", "next_round", "unseen", "open_calls", "voice_has_spoken"):
        assert getattr(work, name) == getattr(rebuilt, name), name


def sent(tools: Sequence[ToolSpec]) -> str:
    return json.dumps([[tool.name, tool.description, tool.parameters] for tool in tools])


async def test_at_every_step_a_rebuild_from_the_database_gives_the_same_bytes(store: Store) -> None:
    session_id = await store.session()
    first = await store.nudge(session_id, "Look north.")
    work = await begin_turn(store, session_id)
    await assert_a_rebuild_is_the_same(store, work)
    assert work.unseen == [first.interrupt_id]

    await append(store, work, user("Light the lamp.\0"))
    await assert_a_rebuild_is_the_same(store, work)

    await begin_round(store, work)
    await assert_a_rebuild_is_the_same(store, work)
    await store.transcript.see(work.lease, work.unseen)
    work.unseen.clear()
    await assert_a_rebuild_is_the_same(store, work)

    thought = NewMessage(MessageType.ASSISTANT, Text("At dusk.\ud800"), reasoning="Hm.\0")
    await append(store, work, thought, call("a"), call("b", "note", "{"))
    await assert_a_rebuild_is_the_same(store, work)
    assert [one.call_id for one in work.open_calls] == ["a", "b"]

    await append(store, work, response("a"))
    await assert_a_rebuild_is_the_same(store, work)
    assert work.open_calls == [ToolCall("b", "note", "{")]

    failed = ToolResponse("b", "note", "not\0 JSON", is_error=True)
    await append(store, work, NewMessage(MessageType.TOOL_RESPONSE, failed))
    second = await store.nudge(session_id, "Look south.")
    await begin_round(store, work)
    third = await store.nudge(session_id, "Look up.")
    await begin_round(store, work)
    await assert_a_rebuild_is_the_same(store, work)
    assert work.unseen == [second.interrupt_id, third.interrupt_id]
    assert work.place.attempt == 2


async def test_what_the_model_was_told_at_the_start_stays_byte_for_byte_whatever_is_offered_later(
    store: Store,
) -> None:
    session_id = await store.session()
    work = await begin_turn(store, session_id)
    assert [tool.name for tool in work.tools] == ["light", "now", "wait", "note"]
    later = await hold(store, work.lease, toolbox(Light()))
    assert later.terms == work.terms
    assert sent(later.tools) == sent(work.tools)


@pytest.mark.parametrize("rows", [[assistant("Let me see."), call("a")], [call("a")]])
async def test_a_round_is_the_same_until_it_has_its_reply(store: Store, rows: list[NewMessage]) -> None:
    work = await begin_turn(store, await store.session())
    await append(store, work, user("Begin."))
    assert work.next_round == 1
    for attempt in (1, 2):
        await begin_round(store, work)
        assert (work.place.round, work.place.attempt, work.next_round) == (1, attempt, 1)
    await append(store, work, *rows)
    assert work.next_round == 2
    await append(store, work, response("a"))
    await begin_round(store, work)
    assert (work.place.round, work.place.attempt, work.next_round) == (2, 1, 2)


async def test_the_inner_voice_speaks_once_a_turn(store: Store) -> None:
    session_id = await store.session()
    work = await begin_turn(store, session_id)
    await append(store, work, user("Begin."))
    await begin_round(store, work)
    await store.transcript.append_answer(
        work.lease, work.next_position, work.place, [assistant("Done.")], Usage()
    )
    assert not (await begin_turn(store, session_id)).voice_has_spoken


async def test_the_inner_voice_has_spoken_though_a_summary_stands_for_its_words(store: Store) -> None:
    work = await begin_turn(store, await store.session())
    await append(store, work, user("Begin."))
    await begin_round(store, work)
    await append(store, work, NewMessage(MessageType.SUMMARY, Text("It began.")))
    async with store.database.connection() as connection:
        await connection.execute("UPDATE messages SET covers_through_position = 1 WHERE type = 'summary'")
    rebuilt = await hold(store, work.lease, toolbox())
    assert [row.type for row in rebuilt.rows] == [MessageType.SUMMARY]
    assert rebuilt.voice_has_spoken
