"""A rolling upgrade: the release before goes on working, and starts, on a schema that is ahead of it.

The release before is the newest tag; as long as there is none, it is this tree, and the schema is ahead of it
by a made-up migration alone.
"""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from spark.agent.v1.event_pb2 import Event
from spark.agent.v1.interrupt_pb2 import INTERRUPT_STATE_SEEN
from tests.conftest import Postgres
from tests.e2e.client import ROOT, Client
from tests.e2e.databases import connected, new_database
from tests.e2e.events import of_kind, rows
from tests.e2e.processes import run, running, spark_toml
from tests.e2e.sessions import create, deposit, turn
from tests.servers.chat import chat_server

LATER_MIGRATION = """
ALTER TABLE sessions ADD COLUMN weather text NOT NULL DEFAULT 'fair';
ALTER TABLE messages ADD COLUMN weather text;
CREATE TABLE weather (place text PRIMARY KEY);
UPDATE alembic_version SET version_num = '9999'"""
CONFIG = {"model": "scripted", "disable_inner_voice": True}


def release_before(directory: Path) -> Path:
    """A tree of the newest release."""
    tags = _git("tag", "--list", "v*", "--sort=-version:refname").decode().split()
    if not tags:
        return ROOT
    subprocess.run(["tar", "-x", "-C", directory], input=_git("archive", tags[0]), check=True)
    return directory


def _git(*arguments: str) -> bytes:
    """What git says; nothing where there is none, or no clone."""
    if not shutil.which("git"):
        return b""
    return subprocess.run(["git", "-C", ROOT, *arguments], capture_output=True, check=False).stdout


@dataclass(frozen=True)
class Upgrade:
    events: list[Event]
    interrupt_state: int
    migrated: tuple[int, str]
    exit_codes: list[int]
    takeovers: int


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def upgrade(postgres: Postgres, client: Client, tmp_path_factory: pytest.TempPathFactory) -> Upgrade:
    tree = release_before(tmp_path_factory.mktemp("release"))
    of_before = {"PYTHONPATH": f"{tree}:{tree / 'protos'}"}
    url = await new_database(postgres)
    async with chat_server() as model, connected(url) as database:
        settings = {
            "SPARK_DATABASE_URL": url,
            "SPARK_CONFIG": spark_toml(tmp_path_factory.mktemp("upgrade"), scripted=model.url),
            "SPARK_POLL_SECONDS": "0.2",
            "SPARK_DRAIN_SECONDS": "0.2",
        }
        async with running("agent_service", **settings, **of_before) as first:
            agent = client.agent(first.address)
            session_id = await create(agent, "Cross over.", **CONFIG)
            request = await model.asked("Cross over.")

            migrated = await run("agent_service", "migrate", **settings)
            await database.execute(LATER_MIGRATION)
            await request.call("call_1", "now")
            await model.asked("call_1")
            interrupt = await deposit(agent, session_id, "Mind the gap.")

            async with running("agent_service", **settings, **of_before) as second:
                exit_codes = [await first.stop()]
                await (await model.asked("Mind the gap.")).call("call_2", "now")
                await model.asked("call_2")
                async with running("agent_service", **settings) as this:
                    exit_codes.append(await second.stop())
                    await (await model.asked("call_2")).answer("I am across.")
                    agent = client.agent(this.address)
                    events = await turn(agent, session_id)
                    now = await agent.call("GetInterrupt", interrupt_id=interrupt.interrupt_id)
                    takeovers = await database.fetchval("SELECT sum(attempts) FROM sessions")
    return Upgrade(events, now.interrupt.state, migrated, exit_codes, takeovers)


def test_the_schema_is_brought_up_while_the_release_before_is_at_work(upgrade: Upgrade) -> None:
    assert upgrade.migrated == (0, "")


def test_the_turn_goes_on_from_replica_to_replica(upgrade: Upgrade) -> None:
    assert of_kind(upgrade.events, "round_failed") == []
    begun = [(started.round, started.attempt) for started in of_kind(upgrade.events, "round_started")]
    assert begun == [(1, 1), (2, 1), (2, 2), (3, 1), (3, 2)]
    said = [row.tool_call.call_id or row.tool_response.call_id or row.text for row in rows(upgrade.events)]
    assert said[1:] == ["call_1", "call_1", "call_2", "call_2", "I am across."]


def test_what_is_posted_on_the_way_is_seen(upgrade: Upgrade) -> None:
    assert upgrade.interrupt_state == INTERRUPT_STATE_SEEN


def test_every_replica_is_stopped_cleanly(upgrade: Upgrade) -> None:
    assert upgrade.exit_codes == [0, 0]
    assert upgrade.takeovers == 0
