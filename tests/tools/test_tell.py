"""The tool `tell`: whom it reaches, what it says of it, and what it refuses."""

import asyncio
from dataclasses import replace

import pytest

from agent_service.domain import (
    Delivery,
    Interrupt,
    Json,
    NewSession,
    Nudge,
    SessionConfig,
    SessionId,
    SessionMode,
    new_id,
)
from agent_service.store.database import Database
from agent_service.store.peers import Peers
from agent_service.tools import Toolbox, ToolContext
from agent_service.tools.builtin import builtin_tools
from agent_service.tools.tell import MAX_HOPS, Tell
from tests.support import LIMITS, Store, deposit, open_store

TEAM = {"team": "north"}


async def session(store: Store, name: str = "", labels: dict[str, str] | None = None) -> SessionId:
    config = SessionConfig("demo", mode=SessionMode.ON_INTERRUPT)
    new = NewSession(name, "Keep the lamp.", config, TEAM if labels is None else labels)
    return (await store.sessions.create(new)).session.session_id


def tell(store: Store) -> Tell:
    return Tell(Peers(store.database), store.deposits, LIMITS.max_text_bytes)


async def told(
    store: Store, own: SessionId, to: Json, text: Json = "Look north.", call_key: str = "1.1.a"
) -> tuple[str, bool]:
    """What a call brings, and whether that is an error."""
    context = ToolContext(own, call_key, lambda progress: None)
    outcome = await tell(store).call({"session": to, "text": text}, context)
    return outcome.content, outcome.is_error


async def inbox(store: Store, session_id: SessionId) -> list[Interrupt]:
    return await store.interrupts.page(session_id, 0, 100, ())


async def deliver(store: Store, session_id: SessionId, hops: int) -> None:
    """Open the session's turn with a nudge that has come by so many agents, and one from outside."""
    await store.deposits.deposit(replace(deposit(session_id), hops=hops))
    await store.nudge(session_id)
    assert await store.begin_turn(await store.claim(session_id))


def test_only_sessions_that_name_it_have_it(store: Store) -> None:
    box = Toolbox((*builtin_tools(), tell(store)), max_output_bytes=1000, timeout_seconds=60)
    assert "tell" not in [spec.name for spec in box.specs(())]
    assert [spec.name for spec in box.specs(("tell",))] == ["tell"]
    assert box.repeatable("tell")


@pytest.mark.parametrize("by_name", [True, False])
async def test_a_session_is_told_by_its_name_or_its_id(store: Store, by_name: bool) -> None:
    own, peer = await session(store), await session(store, "lookout")
    said = await told(store, own, "lookout" if by_name else str(peer))
    assert said == (f"Told session {peer}. The message is pending.", False)
    (nudge,) = await inbox(store, peer)
    assert (nudge.source, nudge.body, nudge.delivery, nudge.principal) == (
        f"agent:{own}",
        Nudge("Look north."),
        Delivery.NEXT_ROUND,
        "",
    )


async def test_a_call_that_is_run_again_is_no_second_nudge_and_another_call_is_one(store: Store) -> None:
    own, peer = await session(store), await session(store, "lookout")
    assert await told(store, own, "lookout") == await told(store, own, "lookout")
    assert len(await inbox(store, peer)) == 1
    await told(store, own, "lookout", call_key="1.2.a")
    assert len(await inbox(store, peer)) == 2


async def test_a_call_that_is_run_again_after_its_peer_has_ended_was_told_all_the_same(store: Store) -> None:
    own, peer = await session(store), await session(store, "lookout")
    await told(store, own, "lookout")
    await store.sessions.end(peer)
    said = await told(store, own, "lookout")
    assert said == (f"Told session {peer}. The message is cancelled.", False)


@pytest.mark.parametrize(
    ("own", "other"),
    [
        ({}, {}),
        (TEAM, {}),
        ({}, TEAM),
        (TEAM, {"team": "south"}),
        (TEAM, {"crew": "north"}),
        ({"a": "1", "b": "2"}, {"a": "2", "b": "1"}),
    ],
)
async def test_a_session_that_shares_no_label_is_as_good_as_not_there(
    store: Store, own: dict[str, str], other: dict[str, str]
) -> None:
    caller, peer = await session(store, labels=own), await session(store, "lookout", labels=other)
    nobody = str(new_id())
    there, not_there = await told(store, caller, str(peer)), await told(store, caller, nobody)
    assert there == (not_there[0].replace(nobody, str(peer)), True)
    assert "there is no session 'lookout'" in (await told(store, caller, "lookout"))[0]
    assert await inbox(store, peer) == []


async def test_one_label_among_others_is_enough(store: Store) -> None:
    own = await session(store, labels={"tier": "1", **TEAM})
    await session(store, "lookout", labels={"tier": "2", **TEAM})
    assert not (await told(store, own, "lookout"))[1]


async def test_a_name_that_several_have_is_refused_with_their_ids(store: Store) -> None:
    own = await session(store, "lookout")
    peers = [await session(store, "lookout") for _ in range(2)]
    await session(store, "lookout", labels={})
    words, is_error = await told(store, own, "lookout")
    assert is_error
    assert words.startswith("Not told: several sessions have the name 'lookout'")
    assert words.count("-") == 4 * len(peers)
    assert all(str(peer) in words for peer in peers)


async def test_of_a_name_the_session_that_has_not_ended_is_meant(store: Store) -> None:
    own, ended, peer = await session(store), await session(store, "lookout"), await session(store, "lookout")
    await store.sessions.end(ended)
    assert str(peer) in (await told(store, own, "lookout"))[0]
    await store.sessions.end(peer)
    words = await told(store, own, "lookout", call_key="1.2.a")
    assert words == (f"Not told: session {peer} has ended.", True)


async def test_nobody_tells_itself(store: Store) -> None:
    own = await session(store, "lookout")
    for name in ("lookout", str(own)):
        assert await told(store, own, name) == ("Not told: that is this session itself.", True)
    assert await inbox(store, own) == []


async def test_a_session_without_a_label_reaches_nobody_not_even_itself(store: Store) -> None:
    own = await session(store, "lookout", labels={})
    assert (await told(store, own, str(own)))[1]
    assert await inbox(store, own) == []


async def test_of_a_name_that_the_caller_has_too_the_other_session_is_meant(store: Store) -> None:
    own, peer = await session(store, "lookout"), await session(store, "lookout")
    assert str(peer) in (await told(store, own, "lookout"))[0]
    assert len(await inbox(store, peer)) == 1


@pytest.mark.parametrize("to", [None, 1, "", "  ", ["lookout"], "nobody", "a\0b", "\ud800", "a" * 5000])
async def test_what_names_no_session_is_an_error(store: Store, to: Json) -> None:
    words, is_error = await told(store, await session(store), to)
    assert is_error
    assert words.startswith("Not told: ")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "text must be a string that says something"),
        (1, "text must be a string that says something"),
        (" \n", "text must be a string that says something"),
        ("Look\0north.", "text has a control character; newline and tab are allowed"),
        ("Look \ud800.", "text has a control character; newline and tab are allowed"),
        ("é" * 8193, "text is longer than SPARK_MAX_TEXT_BYTES allows: 16384 bytes of UTF-8"),
    ],
)
async def test_what_no_nudge_can_say_is_an_error(store: Store, text: Json, why: str) -> None:
    own, peer = await session(store), await session(store, "lookout")
    assert await told(store, own, "lookout", text) == (f"Not told: {why}.", True)
    assert await inbox(store, peer) == []


async def test_a_session_with_too_many_pending_is_not_told(database: Database) -> None:
    async with open_store(database, replace(LIMITS, max_pending_per_source=1)) as store:
        own, peer = await session(store), await session(store, "lookout")
        await told(store, own, "lookout")
        words, is_error = await told(store, own, "lookout", call_key="1.2.a")
        assert is_error
        assert words.startswith("Not told: the source has 1 pending interrupts")
        assert len(await inbox(store, peer)) == 1


@pytest.mark.parametrize("calls", [1, 5])
async def test_a_nudge_has_one_hop_more_than_what_its_turn_was_told(store: Store, calls: int) -> None:
    own, peer = await session(store), await session(store, "lookout")
    await deliver(store, own, hops=3)
    # A lone deposit is written by another statement than those that come together.
    await asyncio.gather(*(told(store, own, "lookout", call_key=str(n)) for n in range(calls)))
    assert await hops(store, peer) == [4] * calls


async def test_beyond_the_hop_limit_nothing_is_posted(store: Store) -> None:
    own, peer = await session(store), await session(store, "lookout")
    await deliver(store, own, hops=MAX_HOPS)
    words, is_error = await told(store, own, "lookout")
    assert is_error
    assert words.startswith("Not told: hop limit reached")
    assert await inbox(store, peer) == []


async def test_what_earlier_turns_were_told_does_not_count(store: Store) -> None:
    own, peer = await session(store), await session(store, "lookout")
    await deliver(store, own, hops=MAX_HOPS)
    async with store.database.connection() as connection:
        await connection.execute("UPDATE sessions SET turn = turn + 1 WHERE session_id = $1", own)
    assert not (await told(store, own, "lookout"))[1]
    assert await hops(store, peer) == [1]


async def hops(store: Store, session_id: SessionId) -> list[int]:
    async with store.database.connection() as connection:
        rows = await connection.fetch("SELECT hops FROM messages WHERE session_id = $1", session_id)
    return [row["hops"] for row in rows]
