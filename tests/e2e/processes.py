"""The services as processes: started, stopped, killed, frozen.

What they log goes to this process's stderr unless told otherwise: pytest shows it when a test fails.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

PATIENCE_SECONDS = 30


@dataclass(frozen=True)
class Service:
    address: str
    process: asyncio.subprocess.Process

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    async def kill(self) -> None:
        """As kill -9 does: nothing of it gets a chance to say goodbye."""
        self.process.kill()
        await self.process.wait()

    async def exit_code(self) -> int:
        """Wait for its end."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self.process.wait()

    async def stop(self) -> int:
        self.terminate()
        return await self.exit_code()


@asynccontextmanager
async def running(
    module: str,
    stderr: int | None = None,
    patience_seconds: float = PATIENCE_SECONDS,
    directory: str | Path = "/",
    **settings: str,
) -> AsyncIterator[Service]:
    """`python -m module`, once it listens, at a port of its own unless the settings say otherwise. A module
    that is in the directory is taken from there."""
    listen = f"SPARK_{module.removesuffix('_service').upper()}_LISTEN"
    settings = {listen: "127.0.0.1:0"} | settings
    process = await _start(module, settings=settings, stderr=stderr, directory=directory)
    try:
        async with asyncio.timeout(patience_seconds):
            first_line = (await process.stdout.readline()).decode()
        assert first_line.startswith("listening 127.0.0.1:"), f"{module} said {first_line!r}"
        yield Service(first_line.split()[1], process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def spark_toml(directory: Path, **models: str) -> str:
    """The path of a spark.toml with these models, by name and base URL. Their servers are worked by hand and
    asked for nothing but replies: nobody finds out where interrupts go."""
    path = directory / "spark.toml"
    tables = [
        f'[models.{name}]\nbase_url = "{url}"\nmodel = "{name}"\nplacement = "system"\n'
        for name, url in models.items()
    ]
    path.write_text("\n".join(tables))
    return str(path)


async def run(module: str, *arguments: str, **settings: str) -> tuple[int, str]:
    """`python -m module` to its end: the exit code, and what it said on stderr."""
    process = await _start(module, *arguments, settings=settings, stderr=asyncio.subprocess.PIPE)
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            _, said = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
    return process.returncode, said.decode()


async def _start(
    module: str, *arguments: str, settings: dict[str, str], stderr: int | None, directory: str | Path = "/"
) -> asyncio.subprocess.Process:
    """With no settings but these, neither of the environment nor of a `.env`."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SPARK_")}
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, *arguments),
        cwd=directory,
        env=environment | settings,
        stdout=asyncio.subprocess.PIPE,
        stderr=stderr,
    )
