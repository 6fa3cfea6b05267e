"""The optimizer's tools, as agents call them."""

from typing import Annotated, TypeAlias

from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations
from pydantic import Field

from examples.optimizer.classifier import Answer, Example, answers
from examples.optimizer.jobs import Job, Jobs, JobState
from examples.optimizer.worker import Worker

Examples: TypeAlias = Annotated[list[Example], Field(max_length=2000)]
Call: TypeAlias = Context[object, object]
Words: TypeAlias = Annotated[str, Field(max_length=4096)]

_START = (
    "Tunes a model of your own that sorts texts by label, on examples that you write: two labels or more, "
    "four examples or more of each. Answers with a job id at once and works in the background. "
    "A notification finetune.finished or finetune.failed tells you of the end: wait for it."
)
_ASK = "Asks the model that a finished job has tuned for the label of a text."


def tool_server(worker: Worker, jobs: Jobs) -> MCPServer[object]:
    server: MCPServer[object] = MCPServer("optimizer", log_level="WARNING")

    # To ask twice is to ask once: after a crash an agent's call may be run again.
    @server.tool(description=_START, annotations=ToolAnnotations(idempotent_hint=True))
    async def start_finetune(examples: Examples, call: Call) -> str:
        job = worker.submit(_session_id(call), examples)
        return f"{job.job_id} is {job.state.value}"

    @server.tool(description=_ASK, annotations=ToolAnnotations(read_only_hint=True))
    async def ask_tuned(job_id: str, text: Words, call: Call) -> str:
        answer = _answer(_own_job(jobs, job_id, _session_id(call)), text)
        return f"{answer.label} ({answer.probability:.0%})"

    return server


def _session_id(call: Call) -> str:
    """Of the agent that calls, from whoever runs it: an agent does not know its own."""
    session_id = (call.request_context.meta or {}).get("spark/session_id")
    if not isinstance(session_id, str):
        raise ToolError("The call does not say for which session it is.")
    return session_id


def _own_job(jobs: Jobs, job_id: str, session_id: str) -> Job:
    job = jobs.find(job_id)
    if not job or job.session_id != session_id:
        raise ToolError(f"You have no job {job_id!r}.")
    return job


def _answer(job: Job, text: str) -> Answer:
    if not job.model or job.state is not JobState.FINISHED:
        raise ToolError(f"{job.job_id} is {job.state.value}, there is no model to ask.")
    [answer] = answers(job.model, [text])
    return answer
