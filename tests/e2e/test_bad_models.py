"""Models that are configured and cannot be had: the service starts, and says what is wrong where people look.

Sessions that need such a model wait and show the reason; the others run.
"""

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio

from sparkctl import show
from sparkctl.connections import agent_service
from tests.conftest import Postgres
from tests.e2e.client import Client, Door
from tests.e2e.databases import new_database
from tests.e2e.events import has
from tests.e2e.processes import running
from tests.e2e.sessions import create, turn
from tests.model.scripted_server import (
    DONE,
    Answer,
    Received,
    ScriptedServer,
    answered,
    delta,
    event,
    serving,
    streamed,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

ABSENT = {"error": {"message": "The model `qwen4` does not exist."}}
OFFERED = {"data": [{"id": "qwen3"}, {"id": "gemma"}]}
NONSENSE = answered(200, ["banana", {"prompt": 7}, None])
UNCOUNTED = streamed(delta("stop", content="Hm."), event(choices=[], usage={"prompt_tokens": "many"}), DONE)


@dataclass
class ByPath(ScriptedServer):
    """Answers by the last part of the path."""

    answers: list[Answer] = field(default_factory=list)
    by_path: dict[str, str] = field(default_factory=dict)
    otherwise: str = answered(404, {})

    def answer_to(self, asked: Received) -> Answer:
        return self.by_path.get(asked.path.rpartition("/")[2], self.otherwise)


SERVERS = {
    "absent": ByPath(by_path={"completions": answered(404, ABSENT), "tokenize": answered(404, ABSENT)}),
    "unnamed": ByPath(by_path={"models": answered(200, OFFERED)}),
    "page": ByPath(otherwise=answered(200, "<html>Welcome</html>")),
    "nonsense": ByPath(otherwise=NONSENSE, by_path={"completions": UNCOUNTED}),
}
# What is wrong with those that cannot be used at all.
REASONS = {
    "gone": "the connection to the model server could not be made",
    "absent": "answered 404 (see base_url and model of its table in spark.toml): The model `qwen4` does not",
    "unnamed": "offers 2 models, not one: name one by the key model of its table in spark.toml: qwen3, gemma",
    "page": "the model server sent what is no chat completion",
}


@dataclass(frozen=True)
class Told:
    """What checks printed, with their exit codes, what is shown of sessions, and the lines of the log."""

    checks: dict[str, tuple[int, str]]
    shows: dict[str, dict[str, str]]
    logged: list[dict]


async def sparkctl(address: str, *arguments: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "sparkctl", *arguments),
        env=os.environ | {"SPARK_AGENT_ADDRESS": address},
        stdout=PIPE,
    )
    printed, _ = await process.communicate()
    return process.returncode, printed.decode()


def write_toml(directory: Path, urls: dict[str, str]) -> str:
    """The path of a spark.toml in which all but one say which model of their server they mean."""
    path = directory / "spark.toml"
    tables = {name: f'[models.{name}]\nbase_url = "{url}"\nmodel = "qwen4"\n' for name, url in urls.items()}
    tables["unnamed"] = tables["unnamed"].replace('model = "qwen4"\n', "")
    path.write_text("".join(tables.values()))
    return str(path)


async def shown_waiting(agent: Door, address: str, model: str) -> dict[str, str]:
    """What is shown of a session of the model after its first failures, by labels."""
    session_id = await create(agent, "Keep the lamp lit.", model=model)
    async with agent.stream("StreamTranscript", session_id=session_id) as stream:
        await stream.until(has("round_failed", 2))
        async with agent_service(address) as connection:
            standing = await show.standing(connection, session_id)
    return {row.label: row.text for row in show.rows(standing, datetime.now(UTC))}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def told(
    postgres: Postgres, client: Client, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Told]:
    async with AsyncExitStack() as stack:
        for server in SERVERS.values():
            await stack.enter_async_context(serving(server))
        urls = {"gone": "http://127.0.0.1:1/v1"} | {name: server.url for name, server in SERVERS.items()}
        config = write_toml(tmp_path_factory.mktemp("bad"), urls)
        service = await stack.enter_async_context(
            running(
                "agent_service",
                PIPE,
                SPARK_DATABASE_URL=await new_database(postgres),
                SPARK_CONFIG=config,
                SPARK_DEMO_PACE="0",
            )
        )
        agent = client.agent(service.address)
        printed = await asyncio.gather(*(sparkctl(service.address, "models", "check", name) for name in urls))
        shows = {name: await shown_waiting(agent, service.address, name) for name in REASONS}
        await turn(agent, await create(agent, "Keep the lamp lit.", model="demo"))
        await service.stop()
        said = (await service.process.stderr.read()).decode()
    yield Told(dict(zip(urls, printed, strict=True)), shows, [json.loads(line) for line in said.splitlines()])


@pytest.mark.parametrize("name", REASONS)
async def test_a_check_of_it_fails_with_the_reason_and_what_to_do(told: Told, name: str) -> None:
    code, printed = told.checks[name]
    assert code == 1
    assert REASONS[name] in printed
    assert f"mend the server, or [models.{name}] in spark.toml" in printed


async def test_of_a_server_that_answers_with_nonsense_a_check_says_that_it_guesses(told: Told) -> None:
    code, printed = told.checks["nonsense"]
    assert code == 0
    assert "nothing: it is a guess" in printed
    assert "set placement in [models.nonsense] in spark.toml" in printed


@pytest.mark.parametrize("name", REASONS)
async def test_a_session_that_needs_it_waits_and_shows_the_reason(told: Told, name: str) -> None:
    shown = told.shows[name]
    assert shown["state"] == "backing off, turn 1"
    assert REASONS[name] in shown["failed"]
    assert shown["goes on"].endswith(f" models check {name}")


@pytest.mark.parametrize("name", REASONS)
async def test_it_is_in_the_log(told: Told, name: str) -> None:
    [line, *_] = [
        line for line in told.logged if line["event"] == "model not asked" and line["model"] == name
    ]
    assert line["level"] == "warning"
    assert REASONS[name] in line["error"]
