"""Bad input at both doors: it is refused by its name, nothing is written, and the services go on."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable

import grpc
import psutil
import pytest
import pytest_asyncio
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc.code_pb2 import Code

# A service like the others.
from grpc_reflection.v1alpha import reflection_pb2  # noqa: F401

from spark.agent.v1.agent_service_pb2 import (
    CancelInterruptRequest,
    CreateSessionRequest,
    Deposit,
    DepositInterruptsRequest,
    GetInterruptRequest,
    GetSessionRequest,
    StreamTranscriptRequest,
    UpdateSessionRequest,
    WatchInterruptRequest,
)
from spark.agent.v1.interrupt_pb2 import (
    INTERRUPT_STATE_CANCELLED,
    INTERRUPT_STATE_PENDING,
    INTERRUPT_STATE_SEEN,
)
from spark.gateway.v1.gateway_service_pb2 import BatchPostInterruptsRequest, PostInterruptRequest
from tests.conftest import Postgres
from tests.e2e.bad_input import INVALID, OVER, PAUSED, SUPERSEDED, UNKNOWN_ID, Row, Way, methods, ways
from tests.e2e.bad_input_posts import END_OF_9999, REFUSED_POSTS, TAKEN_POSTS, nudge
from tests.e2e.bad_input_sessions import (
    ANSWERED_CALLS,
    CREATED_SESSIONS,
    REFUSED_CALLS,
    REFUSED_SESSIONS,
    create,
)
from tests.e2e.bad_input_spark import Spark, spark_on
from tests.e2e.bad_input_updates import MADE_UPDATES, REFUSED_UPDATES
from tests.e2e.bad_input_wire import wire
from tests.e2e.client import AGENT, GATEWAY, HEALTH, Refused
from tests.e2e.databases import new_database
from tests.e2e.processes import PATIENCE_SECONDS
from tests.support import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

OF_PYTHON = re.compile(r"Traceback|\w(Error|Exception)\b|<class | object at 0x|asyncpg|sqlalchemy|pydantic")
REFLECTION = "grpc.reflection.v1alpha.ServerReflection"
REFUSED = [*REFUSED_POSTS, *REFUSED_SESSIONS, *REFUSED_UPDATES, *REFUSED_CALLS]
DOORS = pytest.mark.parametrize("door", [GATEWAY, AGENT])
SERVED = [
    pytest.param(door, method, id=f"{method.full_name} of the {door.rpartition('.')[2]}")
    for door in (GATEWAY, AGENT)
    for service in (door, HEALTH, REFLECTION)
    for method in methods(service).values()
]
# Whatever is asked for, these bytes do not ask for it.
NO_MESSAGES = {
    "a byte": b"\xff",
    "the end too early": b"\x0a\x7fab",
    "a field without a number": b"\x00",
    "a field of no kind": b"\x0f",
    "a number without an end": b"\x08" + b"\xff" * 11,
    "an end without a beginning": b"\x0c",
    "a nest 101 deep": b"\x0b" * 101 + b"\x0c" * 101,
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def spark(postgres: Postgres) -> AsyncIterator[Spark]:
    async with spark_on(await new_database(postgres)) as spark:
        yield spark


async def refusal(call: Awaitable[object]) -> Refused:
    with pytest.raises(Refused) as caught:
        await call
    assert not OF_PYTHON.search(caught.value.message)
    return caught.value


@pytest.mark.parametrize("row", REFUSED, ids=str)
async def test_it_is_refused_by_its_name_at_every_door_and_nothing_is_written(spark: Spark, row: Row) -> None:
    before = await spark.fingerprint()
    [refused, *others] = [await refusal(spark.ask(way, row.request)) for way in ways(row.method)]
    assert (refused.code, refused.reason) == row.refusal
    assert refused.fields == ([row.field] if row.field else [])
    assert [other.status for other in others] == [refused.status] * len(others)
    assert await spark.fingerprint() == before


@pytest.mark.parametrize("deposit", TAKEN_POSTS.values(), ids=TAKEN_POSTS)
async def test_a_post_is_kept_as_it_was_sent_and_is_the_same_at_every_door(
    spark: Spark, deposit: Deposit
) -> None:
    sent = spark.addressed(deposit).interrupt
    [kept, *others] = [(await spark.ask(way, deposit)).interrupt for way in ways("PostInterrupt")]
    get = GetInterruptRequest(interrupt_id=kept.interrupt_id)
    others += [(await spark.ask(way, get)).interrupt for way in ways("GetInterrupt")]
    assert said_again(sent, kept) == sent
    assert others == [kept] * len(others)


@pytest.mark.parametrize("asked", CREATED_SESSIONS.values(), ids=CREATED_SESSIONS)
async def test_a_session_is_kept_as_it_was_sent(spark: Spark, asked: CreateSessionRequest) -> None:
    created = (await spark.agent.CreateSession(asked)).session
    assert said_again(asked.session, created) == asked.session
    again = await spark.agent.GetSession(GetSessionRequest(session_id=created.session_id))
    assert again.session == created


@pytest.mark.parametrize("asked", MADE_UPDATES.values(), ids=MADE_UPDATES)
async def test_a_change_of_a_session_is_made_as_it_was_sent(
    spark: Spark, asked: UpdateSessionRequest
) -> None:
    asked = spark.addressed(asked)
    changed = (await spark.agent.UpdateSession(asked)).session
    assert said_again(asked.session, changed) == asked.session


@pytest.mark.parametrize(("method", "asked"), ANSWERED_CALLS.values(), ids=ANSWERED_CALLS)
async def test_what_is_odd_but_good_is_answered_at_every_door(
    spark: Spark, method: str, asked: Message
) -> None:
    before = await spark.fingerprint()
    for way in ways(method):
        await spark.ask(way, asked)
    assert await spark.fingerprint() == before


def said_again(sent: Message, kept: Message) -> Message:
    """The fields of the one, as the other has them."""
    names = {field.name for field, _ in sent.ListFields()}
    return type(kept)(**{field.name: value for field, value in kept.ListFields() if field.name in names})


async def test_the_last_microsecond_of_9999_is_kept_as_the_one_before(spark: Spark) -> None:
    deposit = spark.addressed(nudge(expire_time=Timestamp(seconds=END_OF_9999, nanos=999_999_999)))
    post = PostInterruptRequest(interrupt=deposit.interrupt)
    posted = (await spark.gateway.PostInterrupt(post)).interrupt
    assert posted.expire_time == Timestamp(seconds=END_OF_9999, nanos=999_998_000)
    get = GetInterruptRequest(interrupt_id=posted.interrupt_id)
    assert (await spark.agent.GetInterrupt(get)).interrupt == posted


async def test_what_callers_may_not_say_of_an_interrupt_is_not_heard(spark: Spark) -> None:
    told = {"interrupt_id": UNKNOWN_ID, "principal": "root", "state": INTERRUPT_STATE_SEEN, "revision": 1}
    told |= {"position": 1, "turn": 1, "round": 1, "settle_reason": "so be it"}
    deposit = spark.addressed(nudge(**told))
    post = PostInterruptRequest(interrupt=deposit.interrupt)
    posted = (await spark.gateway.PostInterrupt(post)).interrupt
    assert posted.state == INTERRUPT_STATE_PENDING
    assert posted.interrupt_id != UNKNOWN_ID
    assert (posted.principal, posted.position, posted.settle_reason) == ("", 0, "")


async def test_a_post_that_is_repeated_is_never_refused_though_its_session_has_ended(spark: Spark) -> None:
    deposit = spark.addressed(nudge(request_id="used", session_id=OVER))
    for way in ways("PostInterrupt"):
        again = await spark.ask(way, deposit)
        assert again.duplicate
        assert again.interrupt.state == INTERRUPT_STATE_CANCELLED


async def test_an_error_names_the_request_id_that_the_gateway_chose(spark: Spark) -> None:
    [by_gateway, *_] = ways("PostInterrupt")
    refused = await refusal(spark.ask(by_gateway, nudge(request_id="", session_id=UNKNOWN_ID)))
    assert refused.metadata["request_id"]


async def test_in_a_batch_each_item_has_its_own_result_and_a_repeated_one_that_of_the_first(
    spark: Spark,
) -> None:
    deposits = [
        spark.addressed(deposit)
        for deposit in (
            nudge(request_id="twice"),
            nudge(""),
            nudge(request_id="twice"),
            nudge("Look south.", request_id="twice"),
            nudge(session_id=UNKNOWN_ID),
            nudge(),
        )
    ]
    posts = [PostInterruptRequest(interrupt=one.interrupt, request_id=one.request_id) for one in deposits]
    posted = await spark.gateway.BatchPostInterrupts(BatchPostInterruptsRequest(requests=posts))
    deposited = await spark.agent.DepositInterrupts(DepositInterruptsRequest(deposits=deposits))
    for results in (posted.results, deposited.results):
        first, bad, again, reused, lost, last = results
        assert first.interrupt == again.interrupt
        assert again.duplicate
        assert last.interrupt.state == INTERRUPT_STATE_PENDING
        assert [Code.Name(item.error.code) for item in (bad, reused, lost)] == [
            "INVALID_ARGUMENT",
            "ALREADY_EXISTS",
            "NOT_FOUND",
        ]


@pytest.mark.parametrize(("door", "method"), SERVED)
async def test_bytes_that_are_no_message_are_refused(
    spark: Spark, door: str, method: MethodDescriptor
) -> None:
    for malformed in NO_MESSAGES.values():
        refused = await refusal(spark.send(door, method, malformed))
        assert (refused.code, refused.reason) == INVALID


@pytest.mark.parametrize(("door", "method"), SERVED)
async def test_a_call_without_a_message_is_refused_where_one_is_needed(
    spark: Spark, door: str, method: MethodDescriptor
) -> None:
    if method.client_streaming:
        assert await spark.send(door, method) is None
    else:
        refused = await refusal(spark.send(door, method))
        assert (refused.code, refused.reason) == INVALID


@DOORS
@pytest.mark.parametrize("compression", grpc.Compression)
async def test_a_request_of_5_mb_is_refused(spark: Spark, door: str, compression: grpc.Compression) -> None:
    request = GetInterruptRequest(interrupt_id="0" * 5_000_000).SerializeToString()
    get = methods(door)["GetInterrupt"]
    refused = await refusal(spark.send(door, get, request, compression=compression))
    assert refused.code == "RESOURCE_EXHAUSTED"


@DOORS
async def test_headers_of_100_kb_are_refused(spark: Spark, door: str) -> None:
    get = methods(door)["GetInterrupt"]
    refused = await refusal(spark.send(door, get, b"", metadata=[("padding", "x" * 100_000)]))
    assert refused.code == "RESOURCE_EXHAUSTED"


@DOORS
async def test_what_is_not_http_2_is_hung_up_on(spark: Spark, door: str) -> None:
    for noise in (b"GET / HTTP/1.1\r\nHost: spark\r\n\r\n", bytes(range(256)) * 64):
        async with wire(spark.services[door].address) as other:
            other.say(noise)
            await other.until_hung_up()


@DOORS
async def test_a_method_whose_name_is_no_text_stops_nothing_for_long(spark: Spark, door: str) -> None:
    async with grpc.aio.insecure_channel(spark.services[door].address) as channel:
        with pytest.raises(grpc.aio.AioRpcError):
            await channel.unary_unary(b"/spark.\xff/Get")(b"", timeout=PATIENCE_SECONDS)
    await until(spark.serving)


@pytest.mark.parametrize("way", ways("PostInterrupt"), ids=str)
async def test_a_client_that_vanishes_in_mid_call_and_asks_again_has_posted_once(
    spark: Spark, way: Way
) -> None:
    deposit = nudge()
    async with wire(spark.services[way.door].address) as client, spark.held(PAUSED):
        client.call(way.path, spark.written(way, deposit))
        await until(spark.somebody_waits)
        client.vanish()
    again = [(await spark.ask(way, deposit)).interrupt for _ in range(2)]
    assert again == again[:1] * 2
    query = "SELECT count(*) FROM messages WHERE request_id = $1"
    assert await spark.database.fetchval(query, deposit.request_id) == 1


async def test_clients_that_vanish_in_mid_stream_are_not_missed(spark: Spark) -> None:
    interrupt_id = (await spark.call("PostInterrupt", nudge())).interrupt.interrupt_id
    watch = WatchInterruptRequest(interrupt_id=interrupt_id)
    stream = StreamTranscriptRequest(session_id=PAUSED)
    for way, request in (
        *((way, watch) for way in ways("WatchInterrupt")),
        *((way, stream) for way in ways("StreamTranscript")),
    ):
        async with wire(spark.services[way.door].address) as client:
            client.call(way.path, spark.written(way, request))
            await client.until_heard(interrupt_id.encode())
            client.vanish()
    states = []
    async for response in spark.gateway.WatchInterrupt(watch):
        states.append(response.interrupt.state)
        await spark.call("CancelInterrupt", CancelInterruptRequest(interrupt_id=interrupt_id))
    assert states == [INTERRUPT_STATE_PENDING, INTERRUPT_STATE_CANCELLED]


async def test_a_client_that_never_reads_costs_little_and_delays_nobody(spark: Spark) -> None:
    rows, row_bytes = 8000, 16 * 1024
    session_id = await spark.talkative(rows, row_bytes)
    request = StreamTranscriptRequest(session_id=session_id)
    agent = spark.services[AGENT]
    memory = psutil.Process(agent.process.pid).memory_info
    before_bytes = memory().rss
    async with wire(agent.address) as client:
        [way] = ways("StreamTranscript")
        client.call(way.path, spark.written(way, request))
        await client.until_heard(session_id.encode())
        sent_bytes = 0
        async for response in spark.agent.StreamTranscript(request):
            sent_bytes += response.ByteSize()
            if response.synced:
                break
        assert sent_bytes > rows * row_bytes
        assert memory().rss - before_bytes < rows * row_bytes / 4


async def test_a_post_that_can_be_read_here_but_not_further_on_takes_no_other_along(spark: Spark) -> None:
    post = methods(GATEWAY)["PostInterrupt"]
    good = PostInterruptRequest(interrupt=spark.addressed(nudge()).interrupt).SerializeToString()
    nest = b"\x0b" * 99 + b"\x0c" * 99
    # A second piece of the interrupt, whose length takes two bytes.
    bad = good + bytes([0x0A, len(nest) & 0x7F | 0x80, len(nest) >> 7]) + nest
    async with spark.held(PAUSED):
        posts = [asyncio.ensure_future(spark.send(GATEWAY, post, good)) for _ in range(10)]
        posts.insert(5, asyncio.ensure_future(spark.send(GATEWAY, post, bad)))
        # It is answered after all of them have come.
        await spark.call("GetInterrupt", GetInterruptRequest(interrupt_id=SUPERSEDED))
    refused = await refusal(posts.pop(5))
    assert (refused.code, refused.reason) == INVALID
    assert len({answer.interrupt.interrupt_id for answer in await asyncio.gather(*posts)}) == 10


async def test_every_method_of_which_something_can_be_asked_is_in_the_tables() -> None:
    served = [*methods(AGENT).values(), *methods(GATEWAY).values()]
    assert {method.name for method in served if method.input_type.fields} <= {row.method for row in REFUSED}


async def test_after_all_of_it_both_services_are_well_and_an_agent_sees_what_is_posted(spark: Spark) -> None:
    assert await spark.serving()
    session_id = (await spark.agent.CreateSession(create())).session.session_id
    interrupt_id = (await spark.call("PostInterrupt", nudge(session_id=session_id))).interrupt.interrupt_id
    watch = spark.gateway.WatchInterrupt(WatchInterruptRequest(interrupt_id=interrupt_id))
    states = [response.interrupt.state async for response in watch]
    assert states[-1] == INTERRUPT_STATE_SEEN
