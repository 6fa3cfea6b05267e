"""The database that comes with the service, where no other is named."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.e2e.client import Client
from tests.e2e.events import facts, has, in_bytes, last_revision, of_kind
from tests.e2e.processes import running
from tests.e2e.sessions import create


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A directory that the database's own system user can enter, with a path short enough for its socket."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)
        for process in postgres_processes(Path(directory)):
            process.kill()


def is_alive(process: psutil.Process) -> bool:
    """A zombie is dead: in a container there may be nobody to take note of it."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def postgres_processes(data_dir: Path) -> list[psutil.Process]:
    """Those of the server that runs in the directory, if one does."""
    pid_file = data_dir / "postgres" / "postmaster.pid"
    if not pid_file.exists():
        return []
    postmaster = psutil.Process(int(pid_file.read_text().split()[0]))
    return [postmaster, *postmaster.children(recursive=True)]


async def test_a_session_outlives_a_kill_and_a_clean_stop_takes_the_database_along(
    data_dir: Path, client: Client
) -> None:
    settings = {"SPARK_DATA_DIR": str(data_dir), "SPARK_DEMO_PACE": "0.05", "SPARK_LEASE_SECONDS": "2"}

    async with running("agent_service", **settings) as service:
        agent = client.agent(service.address)
        session_id = await create(agent, "Keep the lamp lit.", model="demo", cooldown="0s")
        async with agent.stream("StreamTranscript", session_id=session_id) as before:
            await before.until(has("tool_call_started"))
            await service.kill()
            await before.end()

    async with running("agent_service", **settings) as service:
        agent = client.agent(service.address)
        async with agent.stream(
            "StreamTranscript", session_id=session_id, after_revision=last_revision(before.responses)
        ) as after:
            await after.until(has("turn_ended", 2))
        await agent.call("EndSession", session_id=session_id)
        async with agent.stream("StreamTranscript", session_id=session_id) as whole:
            assert await whole.end() is None
        processes = postgres_processes(data_dir)
        assert processes
        assert all(is_alive(process) for process in processes)
        assert await service.stop() == 0

    pieced_together = in_bytes([*facts(before.responses), *facts(after.responses)])
    assert in_bytes(facts(whole.responses))[: len(pieced_together)] == pieced_together
    turns = [started.turn for started in of_kind(facts(whole.responses), "turn_started")]
    assert turns == list(range(1, len(turns) + 1))
    assert [process for process in processes if is_alive(process)] == []
