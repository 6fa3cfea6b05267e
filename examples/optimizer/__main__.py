"""The optimizer as a process: an MCP server over Streamable HTTP. It may be killed at any time."""

import asyncio
import logging
import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from examples.optimizer.jobs import Jobs
from examples.optimizer.notify import notifier
from examples.optimizer.server import tool_server
from examples.optimizer.worker import working


@dataclass(frozen=True, slots=True)
class Settings:
    gateway_address: str
    host: str
    port: int
    data_dir: Path
    step_seconds: float


class SettingsError(Exception):
    """A setting that the process cannot start with. The text names it."""


def settings(environment: Mapping[str, str]) -> Settings:
    """Raises SettingsError."""
    host, _, port = environment.get("OPTIMIZER_LISTEN", "127.0.0.1:8765").rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise SettingsError("OPTIMIZER_LISTEN: must be HOST:PORT")
    try:
        step_seconds = float(environment.get("OPTIMIZER_STEP_SECONDS", "0"))
    except ValueError:
        raise SettingsError("OPTIMIZER_STEP_SECONDS: must be a number") from None
    return Settings(
        gateway_address=environment.get("SPARK_GATEWAY_ADDRESS", "127.0.0.1:50050"),
        host=host,
        port=int(port),
        data_dir=Path(environment.get("OPTIMIZER_DATA_DIR", "optimizer-data")),
        step_seconds=step_seconds,
    )


async def main(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT."""
    jobs = Jobs(settings.data_dir)
    async with (
        notifier(settings.gateway_address) as posts,
        working(jobs, posts, settings.step_seconds) as worker,
    ):
        # Stateless: an agent service that was connected before a restart notices nothing of it.
        app = tool_server(worker, jobs).streamable_http_app(stateless_http=True)
        with socket.create_server((settings.host, settings.port)) as listening:
            print("listening", f"{settings.host}:{listening.getsockname()[1]}", flush=True)  # noqa: T201
            # Agent services listen for as long as they run: they are cut off, without a lament of uvicorn.
            config = uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=1)
            await uvicorn.Server(config).serve([listening])


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("examples").setLevel(logging.INFO)
    try:
        asyncio.run(main(settings(os.environ)))
    except SettingsError as error:
        sys.exit(f"optimizer: {error}")
