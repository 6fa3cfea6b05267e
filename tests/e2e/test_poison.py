"""A session whose worker dies of it, each time that it asks its model."""

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from spark.agent.v1.session_pb2 import SESSION_STATE_ACTIVE, SESSION_STATE_FAILED
from tests.conftest import Postgres
from tests.e2e.client import Client
from tests.e2e.databases import Connection, connected, new_database
from tests.e2e.processes import running, spark_toml
from tests.e2e.sessions import create
from tests.servers.chat import Asked, ChatServer, chat_server
from tests.support import until

NEIGHBOURS = 12
CONFIG = {"model": "scripted", "disable_inner_voice": True}

_AT_LARGE = """
SELECT count(*) FROM sessions JOIN replicas ON lease_owner = replica_id
WHERE goal = 'Poison.' AND lease_until > now()"""
_FAILED = "SELECT count(*) FROM sessions WHERE state = 'failed'"
_UNDONE = (
    "SELECT count(*) FROM sessions WHERE state = 'active' AND turn <> 1 OR turn_open AND state = 'active'"
)


@dataclass
class Life:
    """What a worker's sessions ask, as long as it lives. None gets a word while it has the poison."""

    model: ChatServer
    database: Connection
    poisoned: bool = False
    waiting: list[Asked] = field(default_factory=list)

    async def is_over(self) -> bool:
        """Whether the poison was asked about, or nothing is left to do."""
        for asked in self.model.take_all():
            self.poisoned |= "Poison." in str(asked.body)
            self.waiting.append(asked)
        if self.poisoned:
            return True
        if not await self.database.fetchval(_AT_LARGE):
            while self.waiting:
                # The one before may have asked too, and nobody hears what it is told.
                with suppress(ConnectionError):
                    await self.waiting.pop().answer("All is well.")
        return bool(await self.database.fetchval(_FAILED)) and not await self.database.fetchval(_UNDONE)


async def test_a_poison_session_has_failed_after_five_workers_and_its_neighbours_have_done_their_work(
    postgres: Postgres, client: Client, tmp_path: Path
) -> None:
    database_url = await new_database(postgres)
    async with chat_server() as model, connected(database_url) as database:
        settings = {
            "SPARK_DATABASE_URL": database_url,
            "SPARK_CONFIG": spark_toml(tmp_path, scripted=model.url),
            "SPARK_LEASE_SECONDS": "2",
            "SPARK_POLL_SECONDS": "0.2",
        }
        session_ids: list[str] = []
        deaths = 0
        poisoned = True
        while poisoned:
            async with running("agent_service", **settings) as service:
                agent = client.agent(service.address)
                if not session_ids:
                    goals = ["Keep the lamp."] * NEIGHBOURS + ["Poison."]
                    session_ids = [await create(agent, goal, **CONFIG) for goal in goals]
                life = Life(model, database)
                await until(life.is_over, seconds=60)
                poisoned = life.poisoned
                if poisoned:
                    deaths += 1
                    await service.kill()
                else:
                    sessions = [
                        (await agent.call("GetSession", session_id=session_id)).session
                        for session_id in session_ids
                    ]
    assert deaths == 5
    assert [session.state for session in sessions[:-1]] == [SESSION_STATE_ACTIVE] * NEIGHBOURS
    assert sessions[-1].state == SESSION_STATE_FAILED
    assert sessions[-1].state_reason == "5 workers died while they ran it"
