"""Three agent services and two gateways on one database: replicas come late, die, freeze and stop, and every
agent goes on, and every post is acknowledged, delivered and seen once."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import count

import asyncpg
import grpc
import pytest
import pytest_asyncio

from spark.agent.v1.agent_service_pb2 import CreateSessionRequest
from spark.agent.v1.agent_service_pb2_grpc import AgentServiceStub
from spark.gateway.v1.gateway_service_pb2 import PostInterruptRequest
from spark.gateway.v1.gateway_service_pb2_grpc import GatewayServiceStub
from tests.conftest import Postgres
from tests.e2e.databases import Connection, connected, new_database, until_registered_again
from tests.e2e.processes import Service, running, spark_toml
from tests.servers.chat import ChatServer, chat_server
from tests.support import until

SESSIONS = 80
LEASE_SECONDS = 3

# Who takes a session, and when, by the clock of the leases.
_RECORD_CLAIMS = """
CREATE TABLE claims (session_id uuid, replica_id uuid, claimed_at timestamptz, takeovers int);
CREATE FUNCTION record_claim() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO claims
    VALUES (NEW.session_id, NEW.lease_owner, clock_timestamp(), NEW.attempts - OLD.attempts);
    RETURN NULL;
END $$;
CREATE TRIGGER record_claim AFTER UPDATE ON sessions
FOR EACH ROW WHEN (NEW.lease_owner IS DISTINCT FROM OLD.lease_owner AND NEW.lease_owner IS NOT NULL)
EXECUTE FUNCTION record_claim()"""

_HELD = """
SELECT count(session_id) FROM replicas LEFT JOIN sessions ON lease_owner = replica_id
WHERE lease_until > now() AND max_sessions > 0 GROUP BY replica_id"""
_LIVE = "SELECT replica_id, clock_timestamp() AS now FROM replicas WHERE address = $1 AND lease_until > now()"
_HELD_BY = "SELECT session_id FROM sessions WHERE lease_owner = $1"
# The first claim of each of these sessions after a time.
_CLAIMED = """
SELECT DISTINCT ON (session_id) claimed_at, takeovers FROM claims
WHERE session_id = ANY ($1) AND claimed_at > $2 AND replica_id <> $3 ORDER BY session_id, claimed_at"""
_UNDONE = "SELECT count(*) FROM sessions WHERE turn_open OR outstanding > 0"
_SEEN = "SELECT message_id::text FROM messages WHERE seen_at IS NOT NULL"
_GAPS = """
SELECT count(*) FROM (
    SELECT max(position) - count(position) AS missing FROM messages GROUP BY session_id) AS transcripts
WHERE missing <> 0"""


async def _go_on(model: ChatServer) -> None:
    """Everybody who has asked is told to look at the clock, and so comes to the next safe point."""
    for asked in model.take_all():
        with suppress(ConnectionError):
            await asked.call("call", "now")


async def _finish(model: ChatServer) -> None:
    for asked in model.take_all():
        with suppress(ConnectionError):
            await asked.answer("Done.")


@dataclass
class Posts:
    """Somebody who posts through all gateways, one after the other, and never posts anything again."""

    gateways: Sequence[GatewayServiceStub]
    session_ids: Sequence[str]
    numbers: count = field(default_factory=count)
    acknowledged: list[str] = field(default_factory=list)

    async def until(self, condition: Callable[[], Awaitable[bool]]) -> None:
        """Post until something is so."""
        async with asyncio.timeout(60):
            while not await condition():
                for gateway in self.gateways:
                    await self._post(gateway, next(self.numbers))

    async def _post(self, gateway: GatewayServiceStub, number: int) -> None:
        request = PostInterruptRequest(request_id=f"post-{number}")
        request.interrupt.session_id = self.session_ids[number % SESSIONS]
        request.interrupt.source = "operator"
        request.interrupt.nudge.text = f"Look {number}."
        self.acknowledged.append((await gateway.PostInterrupt(request)).interrupt.interrupt_id)


@dataclass(frozen=True)
class Loss:
    """What became of the sessions that a replica held when it went: how many it held, how often each counts
    as taken from a dead worker, and the seconds from the end of its lease to the last claim."""

    held: int
    takeovers: list[int]
    seconds: float


@dataclass(frozen=True)
class Cluster:
    spread: list[int]
    killed: Loss
    frozen: Loss
    stopped: Loss
    exit_code: int
    acknowledged: list[str]
    seen: list[str]
    events: dict[str, int]
    transcripts_with_gaps: int
    states: list[tuple[str, int]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    url = await new_database(postgres)
    async with chat_server() as model, connected(url) as database, AsyncExitStack() as stack:
        settings = {
            "SPARK_DATABASE_URL": url,
            "SPARK_CONFIG": spark_toml(tmp_path_factory.mktemp("replicas"), scripted=model.url),
            "SPARK_LEASE_SECONDS": str(LEASE_SECONDS),
            "SPARK_POLL_SECONDS": "0.5",
            "SPARK_DRAIN_SECONDS": "2",
        }

        async def replica(listen: str = "127.0.0.1:0") -> Service:
            return await stack.enter_async_context(
                running("agent_service", **settings, SPARK_AGENT_LISTEN=listen)
            )

        async def held() -> list[int]:
            return sorted(row["count"] for row in await database.fetch(_HELD))

        async def first_holds_all() -> bool:
            return await held() == [SESSIONS]

        async def is_spread() -> bool:
            await _go_on(model)
            now = await held()
            return len(now) == 3 and sum(now) == SESSIONS and now[-1] < SESSIONS / 2

        async def is_done() -> bool:
            await _finish(model)
            return not await database.fetchval(_UNDONE)

        first = await replica()
        await database.execute(_RECORD_CLAIMS)
        session_ids = await _create(first.address)
        await until(first_holds_all)
        second, third = await replica(), await replica()
        await until(is_spread)
        spread = await held()

        target = f"ipv4:{first.address},{second.address},{third.address}"
        gateways = [await stack.enter_async_context(_gateway(target)) for _ in range(2)]
        posts = Posts(gateways, session_ids)
        killed = await _lose(first, first.process.kill, database, posts)
        await first.process.wait()
        await replica(first.address)
        frozen = await _lose(second, second.freeze, database, posts)
        second.thaw()
        await until_registered_again(database, second.address)
        stopped = await _lose(third, third.terminate, database, posts)
        exit_code = await third.exit_code()
        await until(is_done, seconds=60)
        return Cluster(
            spread,
            killed,
            frozen,
            stopped,
            exit_code,
            posts.acknowledged,
            [row["message_id"] for row in await database.fetch(_SEEN)],
            dict(await database.fetch("SELECT type, count(*) FROM events GROUP BY type")),
            await database.fetchval(_GAPS),
            [tuple(row) for row in await database.fetch("SELECT DISTINCT state, attempts FROM sessions")],
        )


async def _create(address: str) -> list[str]:
    request = CreateSessionRequest()
    request.session.goal = "Keep the lamp."
    request.session.config.model = "scripted"
    request.session.config.disable_inner_voice = True
    request.session.config.cooldown.FromSeconds(3600)
    async with grpc.aio.insecure_channel(address) as channel:
        agent = AgentServiceStub(channel)
        return [(await agent.CreateSession(request)).session.session_id for _ in range(SESSIONS)]


@asynccontextmanager
async def _gateway(target: str) -> AsyncIterator[GatewayServiceStub]:
    async with (
        running("gateway", SPARK_AGENT_ADDRESS=target) as gateway,
        grpc.aio.insecure_channel(gateway.address) as channel,
    ):
        yield GatewayServiceStub(channel)


async def _lose(replica: Service, end: Callable[[], None], database: Connection, posts: Posts) -> Loss:
    """End a replica in the middle of all its rounds, and post until others have all its sessions."""
    replica_id, ended_at = await database.fetchrow(_LIVE, replica.address)
    session_ids = [row["session_id"] for row in await database.fetch(_HELD_BY, replica_id)]
    end()

    async def claims() -> list[asyncpg.Record]:
        return await database.fetch(_CLAIMED, session_ids, ended_at, replica_id)

    async def all_are_taken() -> bool:
        return len(await claims()) == len(session_ids)

    await posts.until(all_are_taken)
    claimed = await claims()
    lease_until = await database.fetchval(
        "SELECT lease_until FROM replicas WHERE replica_id = $1", replica_id
    )
    last = max(claim["claimed_at"] for claim in claimed)
    return Loss(
        len(session_ids), [claim["takeovers"] for claim in claimed], (last - lease_until).total_seconds()
    )


def test_replicas_that_come_later_get_their_share(cluster: Cluster) -> None:
    assert cluster.spread[0] >= 1
    assert sum(cluster.spread) == SESSIONS


@pytest.mark.parametrize("way", ["killed", "frozen"])
def test_the_sessions_of_a_lost_replica_are_taken_over_within_two_lease_times(
    cluster: Cluster, way: str
) -> None:
    loss = getattr(cluster, way)
    assert loss.takeovers == [1] * loss.held
    assert 0 < loss.seconds < LEASE_SECONDS


def test_those_of_a_replica_that_is_stopped_are_taken_over_at_once_and_count_as_no_takeover(
    cluster: Cluster,
) -> None:
    assert cluster.exit_code == 0
    assert cluster.stopped.held > 0
    assert cluster.stopped.takeovers == [0] * cluster.stopped.held
    assert cluster.stopped.seconds < LEASE_SECONDS


def test_every_post_is_acknowledged_and_seen_once(cluster: Cluster) -> None:
    assert len(cluster.acknowledged) == len(set(cluster.acknowledged)) > 3
    assert sorted(cluster.seen) == sorted(cluster.acknowledged)
    assert cluster.events["interrupt_posted"] == len(cluster.acknowledged)
    assert cluster.events["interrupt_delivered"] == len(cluster.acknowledged)


def test_no_round_has_failed_and_no_row_is_missing(cluster: Cluster) -> None:
    assert "round_failed" not in cluster.events
    assert cluster.events["turn_started"] == cluster.events["turn_ended"]
    assert cluster.transcripts_with_gaps == 0


def test_every_session_is_well_in_the_end(cluster: Cluster) -> None:
    assert cluster.states == [("active", 0)]
