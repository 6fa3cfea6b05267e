"""The connection to PostgreSQL is cut at every piece of every write, on its way there and on its way back.

Nothing but Unavailable is raised, and what was to be written is there whole or not at all.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from typing import TypeAlias
from uuid import uuid4

import pytest
import pytest_asyncio

from agent_service.domain import Interrupt, NewSession, SessionConfig, SessionState, Usage
from agent_service.errors import Unavailable
from agent_service.settings import SettingsError
from agent_service.store.database import migrate, open_database
from tests.servers.postgres import cluster, reachable
from tests.servers.proxy import Proxy, Way, proxy
from tests.support import Store, Work, admit_all, assistant, call, deposit, open_store

pytestmark = pytest.mark.asyncio(loop_scope="module")

Write: TypeAlias = Callable[[Store, Work, Interrupt], Awaitable[object]]

# What is written in the first round of a turn, while one interrupt is unseen and another one waits, with what
# that adds to the events.
WRITES: dict[str, tuple[Write, list[str]]] = {
    "deliver": (
        lambda store, work, _: store.safe_points.begin_round(work.lease, work.next_position, 2, admit_all),
        ["interrupt_delivered", "round_started"],
    ),
    "see": (
        lambda store, work, unseen: store.transcript.see(work.lease, [unseen.interrupt_id]),
        ["interrupt_seen"],
    ),
    "append": (
        lambda store, work, _: store.transcript.append_reply(
            work.lease, work.next_position, work.place, [assistant("Let me see."), call("1")], Usage()
        ),
        ["message_appended", "message_appended"],
    ),
    "end": (
        lambda store, work, _: store.sessions.end(work.lease.session_id),
        ["turn_ended", "interrupt_settled", "interrupt_settled", "session_changed"],
    ),
}


@dataclass
class Line:
    """A store, and the same one over a line that can be cut."""

    store: Store
    proxy: Proxy
    # Whether the last write came to its end before the piece at which the line was to be cut.
    was_spared: bool = False

    async def cut_everywhere(self, way: Way, attempt: Callable[[Store], Awaitable[None]]) -> None:
        """Make an attempt with the line cut at its first piece, at its second, and so on, as long as it has
        so many."""
        for piece in count(1):
            async with _store(self.proxy.port) as behind:
                self.proxy.cut_at(way, piece)
                await attempt(behind)
            if self.was_spared:
                return

    async def is_told(self, write: Awaitable[object]) -> bool:
        """Whether a write came to its end. If not, nobody knows whether it happened."""
        try:
            await write
        except Unavailable:
            return False
        finally:
            self.was_spared = self.proxy.spare()
        return True


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def line() -> AsyncIterator[Line]:
    with reachable() as directory:
        async with cluster(directory / "postgres") as postgres:
            async with open_database(postgres.url()) as database:
                await migrate(database)
            async with _store(postgres.port) as store, proxy(postgres.port) as between:
                yield Line(store, between)


@asynccontextmanager
async def _store(port: int) -> AsyncIterator[Store]:
    url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
    async with open_database(url) as database, open_store(database) as store:
        yield store


def check(fates: set[tuple[bool, bool]], way: Way) -> None:
    """Of a write, whether it was told as done, and whether it was. One that is lost on its way there never
    happens, but what follows it may be lost, too."""
    assert {(True, True), (False, False)} <= fates
    assert (True, False) not in fates
    assert (False, True) in fates or way is Way.UP


@pytest.mark.parametrize("way", Way)
@pytest.mark.parametrize("name", WRITES)
async def test_a_write_whose_connection_is_lost_happened_whole_or_not_at_all(
    line: Line, name: str, way: Way
) -> None:
    write, more = WRITES[name]
    fates = set()

    async def attempt(behind: Store) -> None:
        session_id = await line.store.session()
        unseen = await line.store.nudge(session_id)
        work = await line.store.open_turn(session_id)
        await line.store.nudge(session_id)
        before = await line.store.kinds(session_id)
        told = await line.is_told(write(behind, work, unseen))
        happened = await line.store.kinds(session_id) != before
        assert await line.store.kinds(session_id) == before + more * happened
        fates.add((told, happened))
        await line.store.sessions.end(session_id)

    await line.cut_everywhere(way, attempt)
    check(fates, way)


@pytest.mark.parametrize("way", Way)
@pytest.mark.parametrize("more", [0, 1])
async def test_a_deposit_repeated_until_it_is_told_is_there_once(line: Line, more: int, way: Way) -> None:
    """Alone, and in a batch."""
    fates = set()

    async def attempt(behind: Store) -> None:
        session_id = await line.store.session()
        deposits = [deposit(session_id, request_id=f"{n}") for n in range(1 + more)]
        told = await line.is_told(asyncio.gather(*map(behind.deposits.deposit, deposits)))
        kept = await line.store.outstanding(session_id)
        posted = await asyncio.gather(*map(behind.deposits.deposit, deposits))
        assert kept in (0, 1, len(deposits))
        assert [one.duplicate for one in posted].count(True) == kept
        assert (await line.store.kinds(session_id)).count("interrupt_posted") == len(deposits)
        assert await line.store.outstanding(session_id) == len(deposits)
        fates.add((told, kept == len(deposits)))
        await line.store.sessions.end(session_id)

    await line.cut_everywhere(way, attempt)
    check(fates, way)


@pytest.mark.parametrize("way", Way)
async def test_a_session_whose_claim_is_lost_is_claimed_once_more_and_nothing_is_held_against_it(
    line: Line, way: Way
) -> None:
    fates = set()

    async def attempt(behind: Store) -> None:
        replica, session_id = await line.store.replica(), await line.store.session()
        told = await line.is_told(behind.leases.claim_due(replica, 1))
        held = await line.store.leases.held(replica)
        free = await behind.leases.claim_due(replica, 1)
        again = [*free, *await behind.leases.claim_own(replica, [one.lease for one in free], 1)]
        assert [claim.lease.session_id for claim in again] == [session_id]
        assert await line.store.leases.held(replica) == {claim.lease for claim in again}
        fates.add((told, bool(held)))
        await line.store.sessions.end(session_id)

    await line.cut_everywhere(way, attempt)
    check(fates, way)


@pytest.mark.parametrize("way", Way)
async def test_a_session_whose_creation_is_lost_is_created_once(line: Line, way: Way) -> None:
    fates = set()

    async def attempt(behind: Store) -> None:
        new = NewSession("", "Keep the lamp.", SessionConfig("demo"), {}, uuid4().hex)
        told = await line.is_told(behind.sessions.create(new))
        kept = await line.store.sessions.page(100, None, [SessionState.ACTIVE], {})
        created = await behind.sessions.create(new)
        assert [one.session.session_id for one in kept] in ([], [created.session.session_id])
        fates.add((told, bool(kept)))
        await line.store.sessions.end(created.session.session_id)

    await line.cut_everywhere(way, attempt)
    check(fates, way)


@pytest.mark.parametrize("way", Way)
async def test_a_migration_whose_connection_is_lost_says_so_in_a_sentence(line: Line, way: Way) -> None:
    told = set()
    for piece in count(1):
        async with _store(line.proxy.port) as behind:
            line.proxy.cut_at(way, piece)
            try:
                await migrate(behind.database)
            except SettingsError as error:
                told.add(str(error))
        if line.proxy.spare():
            break
    assert told == {"SPARK_DATABASE_URL: the schema cannot be brought up: the database cannot be reached"}
