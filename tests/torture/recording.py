"""A short run of the real services, recorded in the lines that a torture run leaves behind."""

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

from google.protobuf.message import Message

from agent_service.model import INNER_VOICE_MARK, SUMMARY_MARK
from spark.agent.v1 import agent_service_pb2 as agent_pb2
from spark.agent.v1.interrupt_pb2 import Interrupt
from spark.gateway.v1 import gateway_service_pb2 as gateway_pb2
from tests.conftest import Postgres
from tests.e2e.databases import new_database
from tests.e2e.processes import running
from tests.torture.database import dump, until_at_rest
from tests.torture.doors import Door, Doors, doors
from tests.torture.history import History, history
from tests.torture.model import ModelServer, model_server
from tests.torture.script import Call, Reply, Trouble, session_name
from tests.torture.town import goal

POLL_SECONDS, LEASE_SECONDS, MODEL_SECONDS = 0.2, 2, 1
_PATIENCE_SECONDS = 20
_LONG = "The lamp burns all night while the sea is calm and one ship after another finds its way home. " * 16


@dataclass
class Recording:
    """The lines of both files."""

    history: list[dict]
    rows: list[dict]

    @classmethod
    def read(cls, directory: Path) -> "Recording":
        texts = [(directory / f"{name}.jsonl").read_text() for name in ("history", "database")]
        return cls(*([json.loads(line) for line in text.splitlines()] for text in texts))

    def write(self, directory: Path) -> None:
        for name, lines in (("history", self.history), ("database", self.rows)):
            text = "".join(f"{json.dumps(line)}\n" for line in lines)
            (directory / f"{name}.jsonl").write_text(text)


@dataclass
class Clients:
    """Whoever calls the services, one call at a time."""

    at: Doors

    async def create(self, name: str, **config: object) -> str:
        session = {"display_name": name, "goal": goal(name, "Keep the lamp.")}
        config = {"model": "scripted", "tools": ["now", "wait"], "cooldown": {"seconds": 3600}} | config
        request = agent_pb2.CreateSessionRequest(session=session | {"config": config}, request_id=uuid4().hex)
        return (await self._call(self._agent, "CreateSession", request)).session.session_id

    async def post(self, session_id: str, text: str, request_id: str = "", **fields: object) -> str:
        """The id of the interrupt; empty where it was refused."""
        body = {"source": "operator"} | fields
        body |= {} if "notification" in body else {"nudge": {"text": text}}
        interrupt = Interrupt(session_id=session_id, **body)
        request = gateway_pb2.PostInterruptRequest(interrupt=interrupt, request_id=request_id or text[:20])
        answer = await self._call(self._gateway, "PostInterrupt", request)
        return answer.interrupt.interrupt_id if answer else ""

    async def on_session(self, method: str, session_id: str) -> None:
        request = getattr(agent_pb2, f"{method}Request")(session_id=session_id)
        await self._call(self._agent, method, request)

    async def cancel(self, interrupt_id: str) -> None:
        request = gateway_pb2.CancelInterruptRequest(interrupt_id=interrupt_id)
        await self._call(self._gateway, "CancelInterrupt", request)

    async def watch(self, interrupt_id: str) -> None:
        """Until its state is final."""
        request = gateway_pb2.WatchInterruptRequest(interrupt_id=interrupt_id)
        code = await self._gateway.follow(
            "watcher-1", "WatchInterrupt", request, _PATIENCE_SECONDS, lambda _: False
        )
        assert code == "OK", code

    async def transcript(
        self, session_id: str, after_revision: int, enough: Callable[[Message], object]
    ) -> int:
        """The last revision of what a stream brings, until that is enough or it ends."""
        last = after_revision

        def hear(response: Message) -> object:
            nonlocal last
            last = response.last_revision
            return enough(response)

        request = agent_pb2.StreamTranscriptRequest(session_id=session_id, after_revision=after_revision)
        await self._agent.follow("watcher-1", "StreamTranscript", request, _PATIENCE_SECONDS, hear)
        return last

    @property
    def _agent(self) -> Door:
        return self.at.agents[0]

    @property
    def _gateway(self) -> Door:
        return self.at.gateways[0]

    async def _call(self, door: Door, method: str, request: Message) -> Message | None:
        while (answered := await door.call("poster-1", method, request)).is_unknown:
            continue
        return answered.message


# ---- the model


@dataclass(frozen=True)
class Hold:
    """A reply that is held back, once it was asked for."""

    asked: asyncio.Event = field(default_factory=asyncio.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass
class Talk:
    """What the model says: in each turn of an agent first a call, then words. The first reply about a goal
    can be held back, or break off."""

    held: dict[str, Hold] = field(default_factory=dict)
    breaks_off: set[str] = field(default_factory=set)
    calls: dict[str, tuple[str, str]] = field(default_factory=lambda: defaultdict(lambda: ("now", "{}")))
    _count: int = 0

    def reply(self, body: dict) -> Reply:
        messages, name = body["messages"], session_name(body)
        roles = [message["role"] for message in messages]
        self._count += 1
        if INNER_VOICE_MARK in messages[0]["content"]:
            return Reply(f"Take step {self._count}.")
        if SUMMARY_MARK in messages[-1]["content"]:
            return Reply("Much was done.")
        if name in self.breaks_off:
            self.breaks_off.remove(name)
            return Reply("Just a moment.", trouble=Trouble.CUT)
        if "tool" in roles[len(roles) - 1 - roles[::-1].index("user") :]:
            return Reply(f"That was step {self._count}. {_LONG}")
        hold = self.held.pop(name, None)
        if hold:
            hold.asked.set()
        return Reply(
            calls=(Call(f"call{self._count:05}", *self.calls[name]),), when=hold.released if hold else None
        )


# ---- the run


@asynccontextmanager
async def _services(
    postgres: Postgres, directory: Path, model: ModelServer, written: History
) -> AsyncIterator[tuple[str, Doors]]:
    """The URL of the database, and the doors of an agent service and a gateway."""
    config = directory / "spark.toml"
    config.write_text(
        f'[models.scripted]\nbase_url = "http://127.0.0.1:{model.port}/v1"\nmodel = "scripted"\n'
        'placement = "system"\ncontext_window = 4500\n'
    )
    url = await new_database(postgres)
    settings = {"SPARK_POLL_SECONDS": str(POLL_SECONDS), "SPARK_LEASE_SECONDS": str(LEASE_SECONDS)}
    settings |= {"SPARK_DATABASE_URL": url, "SPARK_CONFIG": str(config)}
    async with (
        running("agent_service", **settings) as agent,
        running("gateway", SPARK_AGENT_ADDRESS=agent.address) as gateway,
        doors(written, {"agent-1": agent.address}, {"gateway-1": gateway.address}) as at,
    ):
        yield url, at


async def record(postgres: Postgres, directory: Path) -> Recording:
    talk = Talk()
    async with AsyncExitStack() as stack:
        written = stack.enter_context(history(directory))
        written.write(
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
        model = await stack.enter_async_context(model_server(talk, written))
        services = _services(postgres, directory, model, written)
        url, at = await stack.enter_async_context(services)
        clients = Clients(at)
        await _autonomous(clients, talk)
        await _paused(clients)
        await _ended(clients, talk, written)
        written.write("calm")
        await until_at_rest(url)
        written.write("end", waited_seconds=0)
        await dump(directory, url, at.agents[0].stub)
    return Recording.read(directory)


async def _autonomous(clients: Clients, talk: Talk) -> None:
    """It is told something while it works, and again when it rests, until its context was full."""
    hold = talk.held["alpha"] = Hold()
    alpha = await clients.create("alpha")
    await hold.asked.wait()
    first = await clients.post(alpha, "Look north.")
    await clients.post(alpha, "Look north.")
    hold.released.set()
    await clients.watch(first)
    begun = await clients.transcript(alpha, 0, _has_end_of_turn)
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
    await clients.transcript(alpha, begun, lambda response: response.synced)


async def _paused(clients: Clients) -> None:
    """What is posted to a paused session is withdrawn, replaced, expires, or waits until it is resumed. The
    two that wait are too long to be delivered at once."""
    beta = await clients.create("beta", mode=2, disable_inner_voice=True)
    await clients.on_session("PauseSession", beta)
    await clients.post(beta, "Short.")
    waiting = await clients.post(beta, f"First. {_LONG * 2}")
    await clients.cancel(await clients.post(beta, "Never mind."))
    await clients.post(beta, "Half.", source="service:tide", coalesce_key="level")
    full = await clients.post(beta, f"Full. {_LONG * 2}", source="service:tide", coalesce_key="level")
    soon = {"seconds": int(time.time()) + 3}
    await clients.watch(await clients.post(beta, "Soon.", expire_time=soon))
    await clients.post(beta, "Another body.", "Never mind.")
    await clients.on_session("ResumeSession", beta)
    await clients.watch(waiting)
    await clients.watch(full)
    await clients.post(beta, "Never mind.")


async def _ended(clients: Clients, talk: Talk, written: History) -> None:
    """With a call that waits and an interrupt that is outstanding, after a round that failed."""
    talk.breaks_off.add("gamma")
    talk.calls["gamma"] = "wait", '{"seconds": 3600}'
    gamma = await clients.create("gamma")
    with written.fault("model-down", "scripted"):
        await clients.transcript(gamma, 0, _has_call)
    await clients.on_session("PauseSession", gamma)
    last = await clients.post(gamma, "Too late.")
    await clients.on_session("EndSession", gamma)
    await clients.watch(last)
    await clients.post(gamma, "Too late.")
    await clients.post(gamma, "Refused.")
    await clients.transcript(gamma, 0, lambda _: False)


def _has_call(response: Message) -> bool:
    return any(event.message_appended.message.tool_call.name for event in response.events)


def _has_end_of_turn(response: Message) -> bool:
    return any(event.HasField("turn_ended") for event in response.events)
