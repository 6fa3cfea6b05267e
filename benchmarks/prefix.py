"""`prefix`: how much of a prompt a model's server reads again for an interrupt, by the place that it goes to.

llama.cpp reads every request and tells what it had at hand; the replies are scripted. Of two sessions with
the same rounds one is interrupted in each of them. What counts is what is read again beyond the other one.
"""

import asyncio
import sys
from asyncio.subprocess import DEVNULL, PIPE, create_subprocess_exec
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from uuid import uuid4

from agent_service.domain import (
    Delivery,
    Deposit,
    NewSession,
    Nudge,
    ReplicaId,
    SessionConfig,
    SessionId,
    Usage,
)
from agent_service.loop.spread import Spread
from agent_service.model import Chunk, Request, Served, ToolCallPiece
from agent_service.model.openai import OpenAIModel
from agent_service.settings import Limits, ModelConfig
from agent_service.store.database import Database, migrate, open_database
from agent_service.store.deposits import Deposits
from agent_service.store.leases import Leases, register
from agent_service.store.sessions import Sessions
from agent_service.wakeups import Wakeups
from benchmarks.bench import Bench
from benchmarks.figures import AtMost, Block, Figure
from benchmarks.replica import agent

_TESTS = Path(__file__).parent.parent / "tests"
_SERVER, _TEMPLATES = _TESTS / "servers" / "llama.py", _TESTS / "data" / "templates"
_CONTEXT_TOKENS = 16_384

ROUNDS = 8
WORDS = "The lamp burns all night while the sea is calm, and one ship after another finds its way home. " * 4
# Of a prompt of two thousand tokens: fewer than the smallest block that servers keep.
BAR = AtMost(0.008)

MOVED = "a system message that is moved"
# Chat templates, and where interrupts go; the last one puts what comes late before everything else.
PLACES = {
    "a system message": ("takes_system", "system"),
    "a message of the user": ("drops_late_system", "user"),
    "a part of a tool's response": ("wants_the_assistant_after_tools", "tool"),
    "text": ("alternates", "text"),
    MOVED: ("moves_system_first", "system"),
}

_LIMITS = Limits(max_text_bytes=16_384, max_data_bytes=16_384, max_pending=1000, max_pending_per_source=1000)
_MAKE_DUE = "UPDATE sessions SET due_at = now() WHERE session_id = $1"


async def _nothing() -> None:
    pass


@dataclass(slots=True)
class Reader:
    """Has its server read each request, does something meanwhile, and calls a tool if it has one."""

    server: OpenAIModel
    read: list[Usage] = field(default_factory=list)
    meanwhile: Callable[[], Awaitable[None]] = _nothing

    async def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        usage = Usage()
        async with aclosing(self.server.stream(replace(request, max_tokens=1))) as chunks:
            async for chunk in chunks:
                usage = chunk.usage or usage
        self.read.append(usage)
        await self.meanwhile()
        if request.tools and len(self.read) < ROUNDS:
            yield Chunk(WORDS, tool_calls=(ToolCallPiece(0, name="now"),), usage=usage)
        else:
            yield Chunk(WORDS, usage=usage)

    async def context_window(self) -> int | None:
        return await self.server.context_window()

    @property
    def served(self) -> Served:
        return self.server.served

    async def render(self, request: Request) -> str | None:
        return await self.server.render(request)


@dataclass(frozen=True, slots=True)
class _Sessions:
    """The agent with the real store, and sessions for it."""

    database: Database
    deposits: Deposits
    wakeups: Wakeups
    replica: ReplicaId

    async def session(self, server: OpenAIModel, interrupted: bool) -> Sequence[Usage]:
        """What was read in the rounds of a session, in each of which an interrupt came or none."""
        # The cooldown keeps a session that had its turn from being claimed again.
        config = SessionConfig("", tools=("now",), disable_inner_voice=True, cooldown=timedelta(days=1))
        created = await Sessions(self.database, self.wakeups).create(
            NewSession("", "Keep the lamp.", config, {})
        )
        session_id, reader = created.session.session_id, Reader(server)
        if interrupted:
            reader.meanwhile = lambda: self._nudge(session_id)
        worker = agent(self.database, self.wakeups, reader, Spread(), asyncio.Event())
        while len(reader.read) < ROUNDS:
            async with self.database.connection() as connection:
                await connection.execute(_MAKE_DUE, session_id)
            (claim,) = await Leases(self.database).claim_due(self.replica, limit=1)
            await worker.run(claim)
        await Sessions(self.database, self.wakeups).end(session_id)
        return reader.read

    async def _nudge(self, session_id: SessionId) -> None:
        nudge = Nudge("Look at the ship in the north.")
        request_id = uuid4().hex
        await self.deposits.deposit(
            Deposit(session_id, "operator", "", nudge, Delivery.NEXT_ROUND, "", None, request_id, b"")
        )


@asynccontextmanager
async def _server(template: str, placement: str) -> AsyncIterator[OpenAIModel]:
    command = [str(_SERVER), "--template", str(_TEMPLATES / f"{template}.jinja")]
    process = await create_subprocess_exec(
        *(sys.executable, *command, "--context", str(_CONTEXT_TOKENS)), stdout=PIPE, stderr=DEVNULL
    )
    try:
        assert process.stdout
        address = (await process.stdout.readline()).decode().split()[1]
        table = {"base_url": f"http://{address}/v1", "model": template, "placement": placement}
        model = OpenAIModel(ModelConfig.model_validate(table))
        yield model
        await model.close()
    finally:
        process.terminate()
        await process.communicate()


def _read_again(read: Sequence[Usage]) -> float:
    """Tokens of the request before, for each request but the first."""
    return fmean(before.input_tokens - now.cached_input_tokens for before, now in pairwise(read))


async def figures(bench: Bench) -> list[Figure]:
    async with open_database(await bench.new_database("prefix")) as database:
        await migrate(database)
        replica, connection, wakeups = ReplicaId(uuid4()), await database.connect(), Wakeups()
        await register(connection, replica, "-", lease_seconds=3600)
        await connection.close()
        async with Deposits(database, wakeups, _LIMITS) as deposits:
            sessions = _Sessions(database, deposits, wakeups, replica)
            return [await _figure(sessions, place) for place in PLACES]


async def _figure(sessions: _Sessions, place: str) -> Figure:
    """Of one block: tokens are counted, and the same each time."""
    async with _server(*PLACES[place]) as server:
        quiet, interrupted = [await sessions.session(server, nudged) for nudged in (False, True)]
    beyond = _read_again(interrupted) - _read_again(quiet)
    prompt = fmean(usage.input_tokens for usage in interrupted)
    return Figure(
        f"prefix: read again for an interrupt as {place}",
        "the whole prompt",
        None if place == MOVED else BAR,
        [Block([beyond], [prompt])],
        limit="only the end of what was there is read again" if place != MOVED else "all that follows it",
        note=f"{beyond:.1f} of {prompt:.0f} tokens, beyond the same round without one",
    )
