"""`batch`: one service tells many agents in one call."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import count, cycle, islice
from uuid import UUID, uuid4

from google.protobuf.json_format import MessageToJson

from agent_service.store.servers import Own
from benchmarks.bench import Bench
from benchmarks.figures import AtLeast, Figure, Sample, compare
from benchmarks.services import Services, notification, nudge, services
from benchmarks.store import new_store
from spark.gateway.v1.gateway_service_pb2 import BatchPostInterruptsRequest, PostInterruptRequest
from spark.gateway.v1.gateway_service_pb2_grpc import GatewayServiceStub

# A session for each post, and one for twenty: its row is written, too.
SESSIONS, FEW_SESSIONS = 512, 25
POSTS = 500
LIMIT = "CPU: each row is checked and converted in Python; PostgreSQL writes an event and a session beside it"
# More than are ever posted.
MAX_PENDING = "1000000"

_BARE_INSERT = """
INSERT INTO messages (session_id, message_id, type, source, text, notification_type, subject, data_json,
                      delivery, request_id, digest, posted_at, posted_revision)
SELECT session_id, message_id, 'system', source, text, notification_type, subject, data_json, 'next_round',
       request_id, digest, posted_at, revision
FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
            $9::bytea[], $10::timestamptz[], $11::bigint[])
     AS r (session_id, message_id, source, text, notification_type, subject, data_json, request_id, digest,
           posted_at, revision)"""


async def figures(bench: Bench) -> list[Figure]:
    async with services(
        bench, "batch", SPARK_MAX_PENDING=MAX_PENDING, SPARK_MAX_PENDING_PER_SOURCE=MAX_PENDING
    ) as ours:
        session_ids = await ours.paused_sessions(bench.choose(SESSIONS, smoke=FEW_SESSIONS))
        async with new_store(bench, "batch_bare") as database:
            connection = await database.connect()
        size = bench.size(pairs=3)

        async def figure(
            kind: str, post: Callable[[str], PostInterruptRequest], sessions: int, bar: AtLeast | None
        ) -> Figure:
            posts = map(post, cycle(session_ids[:sessions]))
            blocks = await compare(size, _ours(ours, posts), _bare(connection, posts))
            name = f"batch post, {POSTS} {kind} to {sessions} sessions: rows a second"
            return Figure(name, "one bare insert into the same table", bar, blocks, LIMIT)

        all_four = [
            await figure("nudges", nudge, SESSIONS, AtLeast(0.3)),
            await figure("nudges", nudge, FEW_SESSIONS, None),
            await figure("notifications with data", notification, SESSIONS, AtLeast(0.2)),
            await figure("notifications with data", notification, FEW_SESSIONS, None),
        ]
        await connection.close()
    return all_four


def _ours(ours: Services, posts: Iterator[PostInterruptRequest]) -> Sample:
    post = GatewayServiceStub(ours.gateway).BatchPostInterrupts

    async def sample() -> float:
        request = BatchPostInterruptsRequest(requests=islice(posts, POSTS))
        began = time.perf_counter()
        response = await post(request)
        seconds = time.perf_counter() - began
        assert all(result.HasField("interrupt") for result in response.results), "a post was refused"
        return POSTS / seconds

    return sample


def _bare(connection: Own, posts: Iterator[PostInterruptRequest]) -> Sample:
    revisions = count(1)

    async def sample() -> float:
        columns = _columns(list(islice(posts, POSTS)), revisions)
        began = time.perf_counter()
        await connection.execute(_BARE_INSERT, *columns)
        return POSTS / (time.perf_counter() - began)

    return sample


def _columns(posts: list[PostInterruptRequest], revisions: Iterator[int]) -> list[list[object]]:
    now = datetime.now(UTC)
    rows = (_row(post, now, next(revisions)) for post in posts)
    return [list(column) for column in zip(*rows, strict=True)]


def _row(post: PostInterruptRequest, now: datetime, revision: int) -> tuple[object, ...]:
    sent, said = post.interrupt, post.interrupt.notification
    more = (said.text, said.type, said.subject, MessageToJson(said.data, indent=None))
    body = (sent.nudge.text, None, None, None) if sent.HasField("nudge") else more
    return (
        *(UUID(sent.session_id), uuid4(), sent.source, *body),
        *(post.request_id, uuid4().bytes * 2, now, revision),
    )
