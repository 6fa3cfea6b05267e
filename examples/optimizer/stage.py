"""Everything that plays a part in the story: both services, the optimizer, and the model with a script."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from examples.optimizer.process import Optimizer, optimizer
from examples.optimizer.script import Play, chat_server
from spark.agent.v1.tool_pb2 import ToolSetState
from sparkctl import toolsets
from sparkctl.connections import AgentService, agent_service
from sparkctl.services import Services, services

POLL_SECONDS = 0.05
_STEP_SECONDS = "0.5"
_TOML = """
[models.script]
base_url = "{model}"
model = "script"
context_window = 32768

[tools.optimizer]
url = "{optimizer}"
share_session_id = true
"""


@dataclass(frozen=True, slots=True)
class Stage:
    agent: AgentService
    optimizer: Optimizer
    services: Services


@asynccontextmanager
async def open_stage(
    environment: Mapping[str, str], directory: Path, play: Play, log: Callable[[str], None]
) -> AsyncIterator[Stage]:
    """A stage on which agents can use the optimizer, whose lines go to the log. Raises CommandFailed."""
    own = {"OPTIMIZER_DATA_DIR": str(directory / "jobs"), "OPTIMIZER_STEP_SECONDS": _STEP_SECONDS}
    toml = directory / "spark.toml"
    async with AsyncExitStack() as stack:
        model_url = await stack.enter_async_context(chat_server(play))
        tuner = await stack.enter_async_context(optimizer({**environment, **own}, log))
        toml.write_text(_TOML.format(model=model_url, optimizer=tuner.url))
        settings = _settings(environment, directory, toml)
        running = await stack.enter_async_context(services(settings, lambda name, line: None))
        await tuner.start(running.addresses.gateway)
        agent = await stack.enter_async_context(agent_service(running.addresses.agent))
        await _until_up(agent)
        yield Stage(agent, tuner, running)


def _settings(environment: Mapping[str, str], directory: Path, toml: Path) -> dict[str, str]:
    """Those of the environment, which may name a database, and the story's own."""
    return {
        **environment,
        "SPARK_DATA_DIR": str(directory / "data"),
        "SPARK_AGENT_LISTEN": "127.0.0.1:0",
        "SPARK_GATEWAY_LISTEN": "127.0.0.1:0",
        "SPARK_CONFIG": str(toml),
    }


async def _until_up(agent: AgentService) -> None:
    while True:
        sets = await toolsets.listed(agent)
        if any(one.name == "optimizer" and one.state == ToolSetState.TOOL_SET_STATE_UP for one in sets):
            return
        await asyncio.sleep(POLL_SECONDS)
