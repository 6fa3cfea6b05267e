"""The tools, as an MCP client calls them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest
from mcp import Client

from examples.optimizer.entries import EXAMPLES, QUESTION
from examples.optimizer.jobs import Jobs
from examples.optimizer.notify import notifier
from examples.optimizer.server import tool_server
from examples.optimizer.worker import working
from tests.examples.optimizer.scripted_gateway import ScriptedGateway, running
from tests.gateway.conditions import until

NEVER_SECONDS = 3600


@dataclass(frozen=True)
class Tools:
    client: Client
    jobs: Jobs

    async def call(self, name: str, session_id: str = "s1", **arguments: object) -> tuple[str, bool]:
        """What the tool says, and whether that is an error."""
        meta = {"spark/session_id": session_id} if session_id else None
        result = await self.client.call_tool(name, arguments, meta=meta)
        return result.content[0].text, result.is_error

    async def start(self) -> str:
        """The id of a new job."""
        said, _ = await self.call("start_finetune", examples=[asdict(one) for one in EXAMPLES])
        return said.split()[0]


@asynccontextmanager
async def open_tools(directory: Path, step_seconds: float = 0) -> AsyncIterator[Tools]:
    jobs = Jobs(directory)
    async with (
        running(ScriptedGateway()) as address,
        notifier(address) as posts,
        working(jobs, posts, step_seconds) as worker,
        Client(tool_server(worker, jobs)) as client,
    ):
        yield Tools(client, jobs)


async def test_an_agent_gets_a_job_id_at_once_and_asks_the_model_when_it_is_finished(tmp_path: Path) -> None:
    async with open_tools(tmp_path) as tools:
        said = await tools.call("start_finetune", examples=[asdict(one) for one in EXAMPLES])
        [job] = tools.jobs.all()
        assert said == (f"{job.job_id} is queued", False)
        assert job.session_id == "s1"
        await until(lambda: tools.jobs.find(job.job_id).told)
        answer, is_error = await tools.call("ask_tuned", job_id=job.job_id, text=QUESTION.text)
    assert (answer.split()[0], is_error) == (QUESTION.label, False)


async def test_a_model_that_is_not_finished_cannot_be_asked(tmp_path: Path) -> None:
    async with open_tools(tmp_path, NEVER_SECONDS) as tools:
        job_id = await tools.start()
        said, is_error = await tools.call("ask_tuned", job_id=job_id, text="A sail")
    assert is_error
    assert said.endswith(f"{job_id} is queued, there is no model to ask.")


@pytest.mark.parametrize("session_id", ["s1", "s2"])
async def test_nobody_asks_the_model_of_another_agent(tmp_path: Path, session_id: str) -> None:
    async with open_tools(tmp_path, NEVER_SECONDS) as tools:
        job_id = await tools.start()
        said, _ = await tools.call("ask_tuned", session_id, job_id=job_id, text="A sail")
    assert ("You have no job" in said) is (session_id == "s2")


async def test_a_call_that_is_for_no_session_is_refused(tmp_path: Path) -> None:
    async with open_tools(tmp_path) as tools:
        said, is_error = await tools.call("start_finetune", session_id="", examples=[])
        assert is_error
        assert said.endswith("The call does not say for which session it is.")
        assert tools.jobs.all() == []


@pytest.mark.parametrize(
    "example", [{"text": "A sail"}, {"text": "A sail", "label": ""}, {"text": "A sail", "label": "a" * 101}]
)
async def test_an_example_without_a_proper_label_is_refused(tmp_path: Path, example: dict[str, str]) -> None:
    async with open_tools(tmp_path) as tools:
        _, is_error = await tools.call("start_finetune", examples=[example])
        assert is_error
        assert tools.jobs.all() == []


async def test_to_start_is_safe_to_repeat_and_to_ask_changes_nothing(tmp_path: Path) -> None:
    async with open_tools(tmp_path) as tools:
        start, ask = (await tools.client.list_tools()).tools
    assert start.annotations.idempotent_hint
    assert ask.annotations.read_only_hint
