"""An agent, its gateway and a model server in the hands of a test, and what holds whatever they do."""

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from spark.agent.v1.event_pb2 import Event
from spark.agent.v1.interrupt_pb2 import Interrupt
from spark.agent.v1.session_pb2 import ACTIVITY_STOPPED, ACTIVITY_WAITING
from tests.e2e.client import Door
from tests.e2e.databases import connected
from tests.e2e.events import facts, has, of_interrupt, of_kind
from tests.e2e.sessions import create, nudge
from tests.loop.checks import check_requests
from tests.servers.chat import Asked, ChatServer
from tests.support import until

KEEPER = Path(__file__).parent.parent / "tools" / "mcp_servers" / "keeper.py"
# Of which a quarter is delivered at once.
NARROW_WINDOW = 2000

_HOLD = """
CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN NEW; END $$;
CREATE TRIGGER hold BEFORE INSERT ON messages
FOR EACH ROW WHEN (NEW.type = '{}') EXECUTE FUNCTION hold()"""

_WAITING = """
SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"""


_MODEL = """
[models.{name}]
base_url = "{url}"
model = "{name}"
context_window = {window}
placement = "system"
"""

_TOOLS = """
[tools.keeper]
command = {command}
"""


def spark_toml(directory: Path, url: str) -> str:
    """The path of a spark.toml with a model twice, by how much goes into it, and a set of tools."""
    path = directory / "spark.toml"
    windows = {"wide": 100_000, "narrow": NARROW_WINDOW}
    models = [_MODEL.format(name=name, url=url, window=window) for name, window in windows.items()]
    path.write_text("".join(models) + _TOOLS.format(command=json.dumps([sys.executable, str(KEEPER)])))
    return str(path)


@dataclass(frozen=True)
class House:
    agent: Door
    gateway: Door
    model: ChatServer
    database_url: str

    async def session(self, goal: str, **config: object) -> "Session":
        config = {"model": "wide", "disable_inner_voice": True} | config
        return Session(self, goal, await create(self.agent, goal, **config))

    async def asleep(self, goal: str) -> "Session":
        """A session whose agent waits for an hour."""
        session = await self.session(goal)
        await (await session.asked()).call("call_1", "wait", '{"seconds": 3600}')
        await session.until_activity(ACTIVITY_WAITING)
        return session


@dataclass(frozen=True)
class Session:
    """The goal tells it from the others: it is in every request."""

    house: House
    goal: str
    session_id: str

    async def asked(self) -> Asked:
        return await self.house.model.asked(self.goal)

    async def post(self, text: str, request_id: str = "", **fields: object) -> Interrupt:
        interrupt = nudge(self.session_id, text) | fields
        post = {"interrupt": interrupt, "request_id": request_id}
        return (await self.house.gateway.call("PostInterrupt", **post)).interrupt

    async def post_together(self, *texts: str) -> list[Interrupt]:
        requests = [{"interrupt": nudge(self.session_id, text)} for text in texts]
        posted = await self.house.gateway.call("BatchPostInterrupts", requests=requests)
        return [result.interrupt for result in posted.results]

    async def now(self, interrupt: Interrupt) -> Interrupt:
        found = await self.house.gateway.call("GetInterrupt", interrupt_id=interrupt.interrupt_id)
        return found.interrupt

    async def pause(self) -> None:
        await self.house.agent.call("PauseSession", session_id=self.session_id)

    async def resume(self) -> None:
        """Once the pause has taken effect."""
        await self.until_activity(ACTIVITY_STOPPED)
        await self.house.agent.call("ResumeSession", session_id=self.session_id)

    async def end(self) -> None:
        await self.house.agent.call("EndSession", session_id=self.session_id)

    async def until_activity(self, activity: int) -> None:
        async def active() -> bool:
            shown = await self.house.agent.call("GetSession", session_id=self.session_id)
            return shown.session.activity == activity

        await until(active)

    async def events(self, name: str = "turn_ended", count: int = 1) -> list[Event]:
        """All up to now, once so many of a kind have come."""
        async with self.house.agent.stream("StreamTranscript", session_id=self.session_id) as stream:
            await stream.until(has(name, count))
        return facts(stream.responses)

    @property
    def requests(self) -> list[list[dict]]:
        """The messages of every request so far."""
        return [asked.messages for asked in self.house.model.received if self.goal in json.dumps(asked.body)]

    def shown(self, text: str) -> list[list[str]]:
        """How each of the requests shows an interrupt, as often as it does."""
        return [frames(messages, text) for messages in self.requests]

    async def check_seen_once(self, events: list[Event], *posted: Interrupt) -> None:
        """Each was delivered and seen once, in the order of the posts. The requests have only grown, and show
        each of them once from its delivery on, in the same bytes."""
        check_requests(self.requests)
        for interrupt in posted:
            about = of_interrupt(events, interrupt.interrupt_id)
            assert about == ["interrupt_posted", "interrupt_delivered", "interrupt_seen"]
            looks = self.shown(interrupt.nudge.text)
            without = looks.count([])
            assert looks == [[]] * without + [looks[-1]] * (len(looks) - without)
            assert len(looks[-1]) == 1
        delivered = [one.interrupt.interrupt_id for one in of_kind(events, "interrupt_delivered")]
        assert delivered == [interrupt.interrupt_id for interrupt in posted]


def frames(messages: list[dict], text: str) -> list[str]:
    """The frames of a request that hold a text."""
    said = "\n".join(message["content"] for message in messages[1:])
    every = [match[0] for match in re.finditer(r"<interrupt-(\w+)>\n.*?\n</interrupt-\1>", said, re.DOTALL)]
    return [frame for frame in every if text in frame]


async def calls(asked: Asked, *names: str, arguments: str = "{}") -> None:
    """The end of a reply: tool calls side by side."""
    functions = [{"name": name, "arguments": arguments} for name in names]
    tool_calls = [
        {"index": n, "id": f"call_{n}", "type": "function", "function": function}
        for n, function in enumerate(functions)
    ]
    choice = {"index": 0, "delta": {"tool_calls": tool_calls}, "finish_reason": "tool_calls"}
    await asked.send(f"data: {json.dumps({'choices': [choice]})}")
    await asked.send("data: [DONE]")
    asked.close()


@asynccontextmanager
async def held_back(database_url: str, kind: str) -> AsyncIterator[Callable[[int], Awaitable[None]]]:
    """No row of a kind is written while this lasts. Gives a way to wait until so many statements wait."""
    async with connected(database_url) as connection:

        async def until_waiting(count: int) -> None:
            async def waiting() -> bool:
                return await connection.fetchval(_WAITING) == count

            await until(waiting)

        await connection.execute(_HOLD.format(kind))
        await connection.execute("SELECT pg_advisory_lock(1)")
        try:
            yield until_waiting
        finally:
            await connection.execute("SELECT pg_advisory_unlock(1)")
            await connection.execute("DROP FUNCTION hold CASCADE")


@dataclass
class Line:
    """A connection to a service, from which for a while nothing comes back."""

    target: str
    address: str = ""
    swallows: bool = False
    _writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        host, _, port = self.target.rpartition(":")
        try:
            back, there = await asyncio.open_connection(host, int(port))
        except OSError:
            writer.close()
            return
        self._writers.append(there)
        await asyncio.gather(self._pass_on(reader, there), self._pass_on(back, writer, comes_back=True))

    async def _pass_on(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, comes_back: bool = False
    ) -> None:
        with suppress(ConnectionError):
            while data := await source.read(65_536):
                if not (comes_back and self.swallows):
                    sink.write(data)
        sink.close()

    def close(self) -> None:
        for writer in self._writers:
            writer.close()


@asynccontextmanager
async def line(target: str) -> AsyncIterator[Line]:
    between = Line(target)
    async with await asyncio.start_server(between.serve, "127.0.0.1", 0) as server:
        between.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield between
        finally:
            between.close()
