"""Plays a schedule with the real agent on the real store."""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import assert_never

from agent_service.domain import NewSession, ReplicaId, SessionId
from agent_service.errors import Unavailable
from agent_service.loop.agent import Agent
from agent_service.loop.interruption import to_its_end
from agent_service.store.database import Database
from agent_service.store.leases import Claim
from agent_service.store.transcript import Transcript
from agent_service.tools import Traits
from tests.loop.schedules.actors import ActingTool, PlayingModel
from tests.loop.schedules.evidence import Claimed, Evidence, gather
from tests.loop.schedules.faulty import FaultyDatabase, WatchedSafePoints
from tests.loop.schedules.outside import Outside
from tests.loop.schedules.plan import Act, Barge, Blow, Deed, Fault, Outward, Schedule, Update
from tests.loop.scripted import Killed, agent
from tests.support import Store

PATIENCE_SECONDS = 30
LEASE_SECONDS = 600
# More than any schedule needs to come to its end.
MAX_LAST_RUNS = 50
GO_ON: tuple[Outward, ...] = (
    Update("max_rounds_per_turn", 0),
    Update("max_turns", 0),
    Update("token_budget", 0),
    Deed.PASS_TIME,
    Deed.RESUME,
)


async def played(store: Store, schedule: Schedule) -> Evidence:
    """What is there in the end of a session to which this has happened. Nobody else may use the database."""
    created = await store.sessions.create(NewSession("", "Keep the lamp.", schedule.config, {}))
    world = World(store, created.session.session_id, schedule, await store.replica(LEASE_SECONDS))
    try:
        await world.play()
        async with store.database.connection() as connection:
            return await gather(connection, world.session_id, world.outside.witness, schedule)
    finally:
        await store.sessions.end(world.session_id)
        async with store.database.connection() as connection:
            await connection.execute("TRUNCATE replicas")


class World:
    def __init__(self, store: Store, session_id: SessionId, schedule: Schedule, replica: ReplicaId) -> None:
        self.store, self.session_id, self.schedule = store, session_id, schedule
        self.outside = Outside(store, session_id)
        self._witness = self.outside.witness
        self._model = PlayingModel(self, schedule)
        self._tool_plays = deque[Sequence[Act]](schedule.tools)
        self._replica = replica
        self._worker: asyncio.Task[None] | None = None
        # When the session was taken from the worker: for the next one, and at which revision.
        self._next_claim: Claim | None = None
        self._lost_at: int | None = None
        self._stopping = asyncio.Event()

    async def play(self) -> None:
        for run in self.schedule.runs:
            await self.does(run.before)
            await self._run(run.fault)
            await self.outside.look()
        await self._go_on_to_the_end()
        await self.outside.repeat_every_post()
        await self.outside.look_back()

    async def _go_on_to_the_end(self) -> None:
        """Let the session work until all is quiet."""
        for _ in range(MAX_LAST_RUNS):
            await self.outside.is_done()
            session = await self.outside.session()
            if session.state == "ended" or not (
                session.outstanding or session.turn_open or session.lease_owner
            ):
                return
            await self.does(GO_ON)
            if not await self._run() and (await self.outside.session()).state != "failed":
                self._witness.complaints.append((8, f"nobody can take the session: {session}"))
                return
        self._witness.complaints.append((8, f"the session does not come to an end: {session}"))

    async def _run(self, fault: Fault | None = None) -> bool:
        """Take the session if it is to be had, and work until it is released, forgotten or lost."""
        await self.outside.is_done()
        claim = self._next_claim or await self._claim()
        self._next_claim = None
        if claim is None:
            return False
        replica, self._stopping = self._replica, asyncio.Event()
        database = FaultyDatabase(self.store.database, fault, self._nobody_knows)
        self._worker = asyncio.create_task(self._agent(database).run(claim))
        await asyncio.wait({self._worker}, timeout=PATIENCE_SECONDS)
        if self._lost_at is not None:
            self._witness.lost.append((self._lost_at, (await self.outside.session()).revision))
            self._lost_at = None
        await self._conclude(self._worker, replica)
        if database.hangs:
            self._next_claim = self._next_claim or await self._claim()
            await database.come_to()
        return True

    async def _conclude(self, worker: asyncio.Task[None], replica: ReplicaId) -> None:
        """A process that died leaves its replica behind. Raises what no run should end with."""
        if not worker.done():
            worker.cancel()
            self._witness.complaints.append((8, "a run does not end"))
        elif not worker.cancelled() and isinstance(worker.exception(), Killed):
            await self.store.leases.sign_off(replica)
            if replica == self._replica:
                self._replica = await self.store.replica(LEASE_SECONDS)
        elif not worker.cancelled() and not isinstance(worker.exception(), Unavailable):
            worker.result()

    async def _claim(self) -> Claim | None:
        """As a poll of the dispatcher does."""
        leases, before = self.store.leases, await self.outside.session()
        for claim, from_dead in (
            (leases.claim_due, False),
            (partial(leases.claim_own, running=[]), False),
            (leases.claim_from_dead, True),
            (leases.claim_suspects, before.lease_owner is not None),
        ):
            for claimed in await claim(self._replica, limit=1):
                assert claimed.lease.session_id == self.session_id
                epoch, attempts = claimed.lease.epoch, (await self.outside.session()).attempts
                self._witness.claims.append(Claimed(from_dead, epoch, before.attempts, attempts))
                return claimed
        await leases.fail_exhausted()
        return None

    def _agent(self, database: Database) -> Agent:
        wakeups = self.store.wakeups
        store = replace(
            self.store,
            transcript=Transcript(database, wakeups),
            safe_points=WatchedSafePoints(database, wakeups, self.store.safe_points),
        )
        traits = {"act": Traits(), "soft": Traits(cancellable=True), "again": Traits(repeatable=True)}
        tools = [ActingTool(self, self._tool_plays, name, trait) for name, trait in traits.items()]
        return agent(store, self._model, self._stopping, tools)

    async def does(self, acts: Sequence[Act], interruptible: bool = False) -> None:
        for act in acts:
            match act:
                case Blow():
                    await self._befalls(act)
                case _:
                    if act is Deed.END:
                        self._nobody_knows()
                    await to_its_end(self.outside.does(act))
                    if isinstance(act, Barge) and interruptible and not await self._has_ended():
                        await _for_ever()

    async def _befalls(self, blow: Blow) -> None:
        match blow:
            case Blow.LAPSE:
                await to_its_end(self._lapse())
            case Blow.DIE:
                raise Killed
            case Blow.STOP:
                self._stopping.set()
            case Blow.CUT_OFF:
                assert self._worker, "somebody is at work"
                self._worker.cancel()
                await _for_ever()
            case unreachable:
                assert_never(unreachable)

    async def _lapse(self) -> None:
        await self.store.leases.sign_off(self._replica)
        self._replica = await self.store.replica(LEASE_SECONDS)
        if claim := await self._claim():
            self._next_claim = claim
            self._lost_at = (await self.outside.session()).revision
        self._nobody_knows()

    def _nobody_knows(self) -> None:
        """Who waits for a reply at this moment may not be able to write anything of it."""
        if self._witness.asked:
            self._witness.asked[-1].cut = True

    async def _has_ended(self) -> bool:
        return (await self.outside.session()).state == "ended"


async def _for_ever() -> None:
    await asyncio.Event().wait()
