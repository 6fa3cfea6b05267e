"""Everything that may speak to an agent speaks to one, in one turn: each by the program that it has for that,
at the real services."""

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

import pytest
import pytest_asyncio

from examples.optimizer import news
from examples.optimizer.entries import EXAMPLES
from examples.optimizer.jobs import Figures, new_job
from examples.optimizer.notify import notifier
from spark.agent.v1.event_pb2 import Event
from spark.agent.v1.interrupt_pb2 import INTERRUPT_STATE_PENDING, INTERRUPT_STATE_SEEN, Interrupt
from spark.agent.v1.message_pb2 import MESSAGE_TYPE_ASSISTANT
from tests.conftest import Postgres
from tests.e2e.client import ROOT, Client, Door
from tests.e2e.databases import new_database
from tests.e2e.events import facts, has, of_interrupt, of_kind, rows
from tests.e2e.processes import running, spark_toml
from tests.e2e.sessions import nudge
from tests.examples.webhook.running import deliver, endpoint, signed
from tests.servers.chat import ChatServer, chat_server

CRON = ROOT / "examples" / "cron"
FIGURES = Figures(accuracy_before=0.25, accuracy_after=0.75, trained_on=33, measured_on=9)
SIGHTED = b'{"type": "ship.sighted", "data": {"name": "Beagle", "knots": 7}}'


@dataclass(frozen=True)
class Scene:
    """Two agents, both in the hands of the test: the one that is spoken to, and one that speaks to it."""

    agent: Door
    gateway: Door
    chat: ChatServer
    lighthouse: str
    lookout: str

    async def operator(self) -> None:
        await self.gateway.call("PostInterrupt", interrupt=nudge(self.lighthouse, "Look north."))

    async def user(self) -> None:
        post = ("post", "lighthouse", "Ring the bell.", "--source", "user:ryan")
        await self._run(sys.executable, "-m", "sparkctl", *post)

    async def service(self) -> None:
        async with notifier(self.gateway.address) as posts:
            await posts.post(news.over(new_job(self.lighthouse, EXAMPLES), FIGURES))

    async def cron(self) -> None:
        """As cron runs its line."""
        *_, line = (CRON / "crontab").read_text().splitlines()
        *_, command = line.split(maxsplit=5)
        await self._run("/bin/sh", "-c", command)

    async def webhook(self) -> None:
        async with endpoint(self.gateway.address, "pilot", self.lighthouse) as url:
            assert await deliver(url, SIGHTED, signed("d1", SIGHTED)) is HTTPStatus.NO_CONTENT

    async def other_agent(self) -> None:
        asked = await self.chat.asked("You are the lookout.")
        told = {"session": "lighthouse", "text": "A trawler, close in."}
        await asked.call("c1", "tell", json.dumps(told))
        asked = await self.chat.asked("You are the lookout.")
        assert asked.messages[-1]["content"].startswith(f"Told session {self.lighthouse}.")
        await asked.answer("I told it.")

    async def listed(self) -> list[Interrupt]:
        return list((await self.gateway.call("ListInterrupts", session_id=self.lighthouse)).interrupts)

    async def _run(self, *command: str) -> None:
        addresses = {"SPARK_AGENT_ADDRESS": self.agent.address, "SPARK_GATEWAY_ADDRESS": self.gateway.address}
        path = f"{CRON}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        process = await asyncio.create_subprocess_exec(*command, env={"PATH": path, **addresses}, cwd="/")
        assert await process.wait() == 0


@dataclass(frozen=True)
class Run:
    scene: Scene
    # As they were listed while they waited, and at the end.
    waiting: list[Interrupt]
    listed: list[Interrupt]
    # By what each watch brought.
    watched: list[list[Interrupt]]
    events: list[Event]
    # Of the request at the safe point.
    messages: list[dict]


@asynccontextmanager
async def open_scene(postgres: Postgres, client: Client, directory: Path) -> AsyncIterator[Scene]:
    async with AsyncExitStack() as stack:
        chat = await stack.enter_async_context(chat_server())
        settings = {
            "SPARK_DATABASE_URL": await new_database(postgres),
            "SPARK_CONFIG": spark_toml(directory, tiny=chat.url),
        }
        service = await stack.enter_async_context(running("agent_service", **settings))
        gateway = await stack.enter_async_context(running("gateway", SPARK_AGENT_ADDRESS=service.address))
        agent = client.agent(service.address)
        lighthouse = await created(agent, "lighthouse", "now")
        lookout = await created(agent, "lookout", "tell")
        yield Scene(agent, client.gateway(gateway.address), chat, lighthouse, lookout)


async def created(agent: Door, name: str, tool: str) -> str:
    config = {"model": "tiny", "tools": [tool], "disable_inner_voice": True, "cooldown": "3600s"}
    session = {
        "display_name": name,
        "goal": f"You are the {name}.",
        "config": config,
        "labels": {"coast": "north"},
    }
    return (await agent.call("CreateSession", session=session)).session.session_id


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def run(
    postgres: Postgres, client: Client, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Run]:
    async with open_scene(postgres, client, tmp_path_factory.mktemp("injectors")) as scene:
        yield await played(scene)


async def played(scene: Scene) -> Run:
    """Everybody speaks while the agent's first round is in flight, one after the other."""
    injectors: list[Callable[[], Awaitable[None]]] = [
        scene.operator,
        scene.user,
        scene.service,
        scene.cron,
        scene.webhook,
        scene.other_agent,
    ]
    async with scene.agent.stream("StreamTranscript", session_id=scene.lighthouse) as stream:
        asked = await scene.chat.asked("You are the lighthouse.")
        for inject in injectors:
            await inject()
        waiting = await scene.listed()
        async with AsyncExitStack() as stack:
            opened = [
                scene.gateway.stream("WatchInterrupt", interrupt_id=one.interrupt_id) for one in waiting
            ]
            watches = [await stack.enter_async_context(one) for one in opened]
            for watch in watches:
                await watch.until(bool)
            await asked.call("c1", "now")
            asked = await scene.chat.asked("You are the lighthouse.")
            await asked.answer("So much news.")
            assert [await watch.end() for watch in watches] == [None] * len(watches)
        await stream.until(has("turn_ended"))
    watched = [[response.interrupt for response in watch.responses] for watch in watches]
    return Run(scene, waiting, await scene.listed(), watched, facts(stream.responses), asked.messages)


def sources(interrupts: list[Interrupt]) -> list[str]:
    return [one.source for one in interrupts]


def expected_sources(run: Run) -> list[str]:
    agent = f"agent:{run.scene.lookout}"
    return ["operator", "user:ryan", "service:optimizer", "cron:morning", "webhook:pilot", agent]


def test_each_is_kept_under_its_own_source_in_the_order_of_the_posts(run: Run) -> None:
    assert sources(run.waiting) == sources(run.listed) == expected_sources(run)
    assert {one.state for one in run.waiting} == {INTERRUPT_STATE_PENDING}
    posted = [posted.interrupt for posted in of_kind(run.events, "interrupt_posted")]
    assert posted == run.waiting


def test_all_are_delivered_at_the_next_safe_point_in_the_order_of_the_posts(run: Run) -> None:
    delivered = [event.interrupt for event in of_kind(run.events, "interrupt_delivered")]
    assert sources(delivered) == expected_sources(run)
    assert {(one.turn, one.round) for one in delivered} == {(1, 2)}
    first = delivered[0].position
    assert [one.position for one in delivered] == list(range(first, first + len(delivered)))
    before = [row.position for row in rows(run.events) if row.position < first]
    assert before == list(range(1, first))


def test_each_is_posted_delivered_and_seen_once(run: Run) -> None:
    for one in run.listed:
        assert of_interrupt(run.events, one.interrupt_id) == [
            "interrupt_posted",
            "interrupt_delivered",
            "interrupt_seen",
        ]
        assert one.state == INTERRUPT_STATE_SEEN


def test_all_are_seen_before_anything_of_the_answer_is_there(run: Run) -> None:
    seen = [event.revision for event in run.events if event.HasField("interrupt_seen")]
    [answered] = [
        event.revision
        for event in run.events
        if event.message_appended.message.type == MESSAGE_TYPE_ASSISTANT
        and event.message_appended.message.text == "So much news."
    ]
    assert max(seen) < answered


def test_each_watcher_is_told_of_its_own_from_pending_to_seen(run: Run) -> None:
    for states, waiting, listed in zip(run.watched, run.waiting, run.listed, strict=True):
        assert (states[0], states[-1]) == (waiting, listed)
        assert {one.interrupt_id for one in states} == {listed.interrupt_id}


def test_the_model_is_shown_each_in_its_frame_nudges_as_words_and_notifications_as_quotes(run: Run) -> None:
    *_, response = [n for n, message in enumerate(run.messages) if message["role"] == "tool"]
    [shown] = run.messages[response + 1 :]
    assert shown["role"] == "system"
    tag = re.match(r"<interrupt-(\w+)>", shown["content"])[1]
    job = new_job(run.scene.lighthouse, EXAMPLES).job_id
    assert shown["content"] == "\n\n".join(
        f"<interrupt-{tag}>\n{words}\n</interrupt-{tag}>"
        for words in [
            "[operator] Look north.",
            "[user:ryan] Ring the bell.",
            f"[service:optimizer] finetune.finished {job}\n"
            f"> The model is ready. Ask it with the tool ask_tuned and the job id {job}.\n"
            '> data: {"accuracy_after":0.75,"accuracy_before":0.25,"measured_on":9,"trained_on":33}',
            "[cron:morning] day.started\n> The day has begun.",
            '[webhook:pilot] ship.sighted\n> data: {"knots":7,"name":"Beagle"}',
            f"[agent:{run.scene.lookout}] A trawler, close in.",
        ]
    )
