"""A short run of the real services, recorded in the lines that a torture run leaves behind."""

import asyncio
import json
import re
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import grpc
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from spark.agent.v1 import agent_service_pb2 as agent_pb2
from spark.agent.v1.agent_service_pb2_grpc import AgentServiceStub
from spark.agent.v1.interrupt_pb2 import Interrupt
from spark.gateway.v1 import gateway_service_pb2 as gateway_pb2
from spark.gateway.v1.gateway_service_pb2_grpc import GatewayServiceStub
from tests.conftest import Postgres
from tests.e2e.databases import Connection, connected, new_database
from tests.e2e.processes import running
from tests.gateway.statuses import info
from tests.servers.chat import Asked, ChatServer, chat_server
from tests.support import until

POLL_SECONDS, LEASE_SECONDS, MODEL_SECONDS = 0.2, 2, 1
_TIMEOUT_SECONDS = 20
_LONG = "The lamp burns all night while the sea is calm and one ship after another finds its way home. " * 16


@dataclass
class Recording:
    """The lines of both files."""

    history: list[dict]
    rows: list[dict] = field(default_factory=list)

    def told(self, what: str, **fields: object) -> dict:
        line = {"what": what, "at": time.time(), **fields}
        self.history.append(line)
        return line

    def write(self, directory: Path) -> None:
        for name, lines in (("history", self.history), ("database", self.rows)):
            text = "".join(f"{json.dumps(line)}\n" for line in lines)
            (directory / f"{name}.jsonl").write_text(text)

    @classmethod
    def read(cls, directory: Path) -> "Recording":
        names = "history", "database"
        texts = [(directory / f"{name}.jsonl").read_text() for name in names]
        return cls(*([json.loads(line) for line in text.splitlines()] for text in texts))


@dataclass
class Clients:
    """Whoever calls the services, one call at a time."""

    recording: Recording
    agent: AgentServiceStub
    gateway: GatewayServiceStub
    _streams: int = 0

    async def call(self, door: str, method: str, request: Message) -> dict:
        """The answer, or one without anything in it."""
        stub = self.gateway if door == "gateway-1" else self.agent
        began, answer, error = time.time(), None, None
        try:
            answer = _json(await getattr(stub, method)(request, timeout=_TIMEOUT_SECONDS))
        except grpc.aio.AioRpcError as refused:
            error = {"code": refused.code().name, "reason": info(refused).reason, "message": ""}
        fields = {"by": "poster-1", "door": door, "method": method, "request": _json(request)}
        self.recording.told("call", began=began, answer=answer, error=error, **fields)
        return answer or {}

    async def create(self, name: str, **config: object) -> str:
        session = {"display_name": name, "goal": f"Keep the lamp. [goal:{name}]"}
        config = {"model": "scripted", "tools": ["now", "wait"], "cooldown": {"seconds": 3600}} | config
        request = agent_pb2.CreateSessionRequest(session=session | {"config": config}, request_id=uuid4().hex)
        return (await self.call("agent-1", "CreateSession", request))["session"]["session_id"]

    async def post(self, session_id: str, text: str, request_id: str = "", **fields: object) -> str:
        """The id of the interrupt; empty where it was refused."""
        body = {"source": "operator"} | fields
        body |= {} if "notification" in body else {"nudge": {"text": text}}
        interrupt = Interrupt(session_id=session_id, **body)
        request = gateway_pb2.PostInterruptRequest(interrupt=interrupt, request_id=request_id or text[:20])
        answer = await self.call("gateway-1", "PostInterrupt", request)
        return answer["interrupt"]["interrupt_id"] if answer else ""

    async def on_session(self, method: str, session_id: str) -> None:
        request = getattr(agent_pb2, f"{method}Request")(session_id=session_id)
        await self.call("agent-1", method, request)

    async def on_interrupt(self, method: str, interrupt_id: str) -> None:
        request = getattr(gateway_pb2, f"{method}Request")(interrupt_id=interrupt_id)
        await self.call("gateway-1", method, request)

    async def watch(self, interrupt_id: str) -> None:
        """Until its state is final."""
        request = gateway_pb2.WatchInterruptRequest(interrupt_id=interrupt_id)
        await self.stream("gateway-1", "WatchInterrupt", request)

    async def stream(
        self, door: str, method: str, request: Message, enough: Callable[[Message], object] = bool
    ) -> list[Message]:
        """What a stream brings, until that is enough; by default until its end."""
        self._streams += 1
        number, stub = self._streams, self.gateway if door == "gateway-1" else self.agent
        fields = {"by": "watcher-1", "door": door, "method": method, "request": _json(request)}
        self.recording.told("opened", stream=number, **fields)
        call = getattr(stub, method)(request, timeout=_TIMEOUT_SECONDS)
        brought: list[Message] = []
        async for response in call:
            brought.append(response)
            self.recording.told("got", stream=number, response=_json(response))
            if enough is not bool and enough(response):
                call.cancel()
                break
        code = "CANCELLED" if call.cancelled() else (await call.code()).name
        self.recording.told("closed", stream=number, code=code, message="")
        return brought

    async def transcript(
        self, session_id: str, after_revision: int, enough: Callable[[Message], object]
    ) -> list[Message]:
        request = agent_pb2.StreamTranscriptRequest(session_id=session_id, after_revision=after_revision)
        return await self.stream("agent-1", "StreamTranscript", request, enough)


def _json(message: Message) -> dict:
    return MessageToDict(message, preserving_proto_field_name=True)


# ---- the model


@dataclass(frozen=True)
class Hold:
    """A reply that is held back, once it was asked for."""

    asked: asyncio.Event = field(default_factory=asyncio.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass
class Model:
    """Answers by itself: in each turn of an agent first a call, then words. The first reply about a goal can
    be held back, or break off."""

    recording: Recording
    chat: ChatServer
    held: dict[str, Hold] = field(default_factory=dict)
    breaks_off: set[str] = field(default_factory=set)
    calls: dict[str, tuple[str, str]] = field(default_factory=lambda: defaultdict(lambda: ("now", "{}")))
    _count: int = 0

    async def serve(self) -> None:
        async with asyncio.TaskGroup() as replies:
            while True:
                replies.create_task(self._reply(await self.chat.asked()))

    async def _reply(self, asked: Asked) -> None:
        line = {"what": "asked", "began": time.time(), "model": "scripted", "body": asked.body}
        line |= {"chunks": 0, "text": "", "calls": [], "ending": "whole", "first_at": None}
        prompt, last = asked.messages[0]["content"], asked.messages[-1]["content"]
        name = re.search(r"\[goal:(\w+)\]", prompt)[1]
        self._count += 1
        of_turn = [message["role"] for message in asked.messages]
        of_turn = of_turn[len(of_turn) - 1 - of_turn[::-1].index("user") :]
        if "You are the inner voice" in prompt:
            await self._say(asked, line, f"Take step {self._count}.")
        elif "Write a summary" in last:
            await self._say(asked, line, "Much was done.")
        elif name in self.breaks_off:
            self.breaks_off.remove(name)
            line["ending"] = "cut"
            asked.close()
        elif "tool" in of_turn:
            await self._say(asked, line, f"That was step {self._count}. {_LONG}")
        else:
            if hold := self.held.pop(name, None):
                hold.asked.set()
                await hold.released.wait()
            tool, arguments = self.calls[name]
            line |= {"first_at": time.time(), "chunks": 2}
            line["calls"] = [{"id": f"call{self._count:05}", "name": tool, "arguments": arguments}]
            await asked.call(f"call{self._count:05}", tool, arguments)
        line["at"] = time.time()
        self.recording.history.append(line)

    async def _say(self, asked: Asked, line: dict, words: str) -> None:
        line |= {"first_at": time.time(), "chunks": 2, "text": words}
        await asked.answer(words)


# ---- the run


@asynccontextmanager
async def _services(postgres: Postgres, directory: Path, chat: ChatServer) -> AsyncIterator[list[str]]:
    """The addresses of the database, the agent service and the gateway."""
    config = directory / "spark.toml"
    config.write_text(
        f'[models.scripted]\nbase_url = "{chat.url}"\nmodel = "scripted"\nplacement = "system"\n'
        "context_window = 4500\n"
    )
    url = await new_database(postgres)
    settings = {"SPARK_POLL_SECONDS": str(POLL_SECONDS), "SPARK_LEASE_SECONDS": str(LEASE_SECONDS)}
    settings |= {"SPARK_DATABASE_URL": url, "SPARK_CONFIG": str(config)}
    async with (
        running("agent_service", **settings) as agent,
        running("gateway", SPARK_AGENT_ADDRESS=agent.address) as gateway,
    ):
        yield [url, agent.address, gateway.address]


async def record(postgres: Postgres, directory: Path) -> Recording:
    recording = Recording([])
    recording.told(
        "run",
        seed=1,
        seconds=1,
        agents=["agent-1"],
        gateways=["gateway-1"],
        poll_seconds=POLL_SECONDS,
        lease_seconds=LEASE_SECONDS,
        model_seconds=MODEL_SECONDS,
        kinds=["model-down"],
    )
    async with AsyncExitStack() as stack:
        chat = await stack.enter_async_context(chat_server())
        url, agent, gateway = await stack.enter_async_context(_services(postgres, directory, chat))
        stubs = [
            stub(await stack.enter_async_context(grpc.aio.insecure_channel(address)))
            for stub, address in ((AgentServiceStub, agent), (GatewayServiceStub, gateway))
        ]
        clients, model = Clients(recording, *stubs), Model(recording, chat)
        database = await stack.enter_async_context(connected(url))
        serving = asyncio.create_task(model.serve())
        try:
            await _autonomous(clients, model)
            await _paused(clients)
            await _ended(clients, model)
            recording.told("calm")
            await _quiet(database)
            recording.told("end", waited_seconds=0)
            recording.rows = await _dump(database, clients)
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
    return recording


async def _autonomous(clients: Clients, model: Model) -> None:
    """It is told something while it works, and again when it rests, until its context was full."""
    hold = model.held["alpha"] = Hold()
    alpha = await clients.create("alpha")
    await hold.asked.wait()
    first = await clients.post(alpha, "Look north.")
    await clients.post(alpha, "Look north.")
    hold.released.set()
    await clients.watch(first)
    begun = await clients.transcript(alpha, 0, lambda response: response.synced)
    sources = ("user:ann", "cron:dawn", "service:tide", "webhook", "agent", "operator")
    for n, source in enumerate(sources * 2):
        turned = {
            "type": "tide.turned",
            "subject": f"job-{n}",
            "text": "It turned.",
            "data": {"metres": n / 4},
        }
        body = {"notification": turned} if n % 2 else {}
        body |= {"delivery": n % 3 + 1, "source": source}
        await clients.watch(await clients.post(alpha, f"Mind ship {n}.", f"ship-{n}", **body))
    await clients.transcript(alpha, begun[-1].last_revision, lambda response: response.synced)


async def _paused(clients: Clients) -> None:
    """What is posted to a paused session is withdrawn, replaced, expires, or waits until it is resumed. The
    two that wait are too long to be delivered at once."""
    beta = await clients.create("beta", mode=2, disable_inner_voice=True)
    await clients.on_session("PauseSession", beta)
    await clients.post(beta, "Short.")
    waiting = await clients.post(beta, f"First. {_LONG * 2}")
    await clients.on_interrupt("CancelInterrupt", await clients.post(beta, "Never mind."))
    await clients.post(beta, "Half.", source="service:tide", coalesce_key="level")
    full = await clients.post(beta, f"Full. {_LONG * 2}", source="service:tide", coalesce_key="level")
    soon = {"seconds": int(time.time()) + 3}
    await clients.watch(await clients.post(beta, "Soon.", expire_time=soon))
    await clients.post(beta, "Another body.", "Never mind.")
    await clients.on_session("ResumeSession", beta)
    await clients.watch(waiting)
    await clients.watch(full)
    await clients.post(beta, "Never mind.")


async def _ended(clients: Clients, model: Model) -> None:
    """With a call that waits and an interrupt that is outstanding, after a round that failed."""
    model.breaks_off.add("gamma")
    model.calls["gamma"] = "wait", '{"seconds": 3600}'
    gamma = await clients.create("gamma")
    clients.recording.told("fault", began=time.time(), kind="model-down", target="scripted")
    await clients.transcript(gamma, 0, _has_call)
    await clients.on_session("PauseSession", gamma)
    last = await clients.post(gamma, "Too late.")
    await clients.on_session("EndSession", gamma)
    await clients.watch(last)
    await clients.post(gamma, "Too late.")
    await clients.post(gamma, "Refused.")
    await clients.transcript(gamma, 0, bool)


def _has_call(response: Message) -> bool:
    return any(event.message_appended.message.tool_call.name for event in response.events)


async def _quiet(database: Connection) -> None:
    async def is_quiet() -> bool:
        held = "SELECT FROM sessions WHERE lease_owner IS NOT NULL OR outstanding > 0"
        return await database.fetchrow(held) is None

    await until(is_quiet)


async def _dump(database: Connection, clients: Clients) -> list[dict]:
    rows: list[dict] = []
    async with database.transaction(isolation="repeatable_read"):
        for table in ("sessions", "messages", "events", "replicas"):
            for found in await database.fetch(f"SELECT row_to_json(t) AS row FROM {table} t"):
                rows.append({"table": table, "row": json.loads(found["row"])})
    for session_id in [line["row"]["session_id"] for line in rows if line["table"] == "sessions"]:
        for method in ("ListMessages", "ListInterrupts"):
            request = getattr(agent_pb2, f"{method}Request")(session_id=session_id, page_size=1000)
            page = await getattr(clients.agent, method)(request, timeout=_TIMEOUT_SECONDS)
            rows.append({"list": method, "session_id": session_id, "answers": [_json(page)]})
        events = await _facts(clients, session_id)
        rows.append({"list": "StreamTranscript", "session_id": session_id, "answers": events})
    return rows


async def _facts(clients: Clients, session_id: str) -> Sequence[dict]:
    request = agent_pb2.StreamTranscriptRequest(session_id=session_id)
    answers = []
    async for response in clients.agent.StreamTranscript(request, timeout=_TIMEOUT_SECONDS):
        answers.append(_json(response))
        if response.synced:
            break
    return answers
