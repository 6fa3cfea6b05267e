"""Bad input, by a real client and through both doors: each is refused by its name, and nothing is written."""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass

import grpc
import pytest
import pytest_asyncio
from google.protobuf.descriptor_pool import Default
from google.rpc.status_pb2 import Status

from spark.agent.v1.interrupt_pb2 import INTERRUPT_STATE_CANCELLED
from tests.e2e.client import Door, Refused
from tests.e2e.conftest import Spark
from tests.e2e.databases import contents

OF_PYTHON = re.compile(r"Traceback|\w(Error|Exception)\b|<class | object at 0x|asyncpg|sqlalchemy|pydantic")

UNKNOWN_ID = "00000000-0000-7000-8000-000000000000"
LONG_TEXT = "x" * (16 * 1024 + 1)
QUIET = {"model": "demo", "mode": "SESSION_MODE_ON_INTERRUPT"}

INVALID = ("INVALID_ARGUMENT", "INVALID_FIELD")
NO_SESSION = ("NOT_FOUND", "SESSION_NOT_FOUND")
NO_INTERRUPT = ("NOT_FOUND", "INTERRUPT_NOT_FOUND")
REUSED = ("ALREADY_EXISTS", "REQUEST_ID_REUSED")
NOT_CONFIGURED = ("FAILED_PRECONDITION", "CONFIG_NOT_FOUND")


@dataclass(frozen=True)
class Sessions:
    """One that waits for its first interrupt, and one that has ended with an interrupt still pending."""

    quiet: str
    ended: str


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sessions(spark: Spark) -> AsyncIterator[Sessions]:
    quiet, ended = [
        (await spark.agent.call("CreateSession", session=session, request_id=request_id)).session.session_id
        for session, request_id in (
            ({"goal": "Be quiet.", "config": QUIET}, "quiet"),
            ({"goal": "Be over.", "config": QUIET}, "ended"),
        )
    ]
    await spark.gateway.call("PostInterrupt", interrupt=nudge(ended), request_id="once")
    await spark.agent.call("EndSession", session_id=ended)
    yield Sessions(quiet, ended)


@pytest.fixture(autouse=True)
async def nothing_is_written(spark: Spark, sessions: Sessions) -> AsyncIterator[None]:
    before = await contents(spark.database_url)
    yield
    assert await contents(spark.database_url) == before


def nudge(to: str, **changes: object) -> dict:
    """A good one but for the changes; None leaves a field out."""
    whole = {"session_id": to, "source": "operator", "nudge": {"text": "Look north."}} | changes
    return {name: value for name, value in whole.items() if value is not None}


async def refused_by_gateway(spark: Spark, interrupt: dict, request_id: str) -> Refused:
    return await spark.gateway.refusal("PostInterrupt", interrupt=interrupt, request_id=request_id)


async def refused_by_agent_service(spark: Spark, interrupt: dict, request_id: str) -> Refused:
    deposits = [{"interrupt": interrupt, "request_id": request_id}]
    [result] = (await spark.agent.call("DepositInterrupts", deposits=deposits)).results
    error = result.error
    return Refused(Status(code=error.code, message=error.message, details=error.details))


async def refused_in_batch(spark: Spark, interrupt: dict, request_id: str) -> Refused:
    requests = [{"interrupt": interrupt, "request_id": request_id}]
    [result] = (await spark.gateway.call("BatchPostInterrupts", requests=requests)).results
    error = result.error
    return Refused(Status(code=error.code, message=error.message, details=error.details))


by_every_way = pytest.mark.parametrize(
    "refused", [refused_by_gateway, refused_in_batch, refused_by_agent_service]
)


both_doors = pytest.mark.parametrize("door", ["gateway", "agent"])


def doors(spark: Spark) -> dict[str, Door]:
    return {"gateway": spark.gateway, "agent": spark.agent}


def check(refused: Refused, kind: tuple[str, str], field: str = "") -> None:
    assert (refused.code, refused.reason) == kind
    assert refused.fields == ([field] if field else [])
    assert refused.message
    assert not OF_PYTHON.search(refused.message)


@by_every_way
@pytest.mark.parametrize(
    ("field", "changes"),
    [
        pytest.param("interrupt.session_id", {"session_id": None}, id="no session"),
        pytest.param("interrupt.session_id", {"session_id": "1-2-3"}, id="a malformed session id"),
        pytest.param("interrupt.source", {"source": None}, id="no source"),
        pytest.param("interrupt.source", {"source": "boss"}, id="an unknown kind of source"),
        pytest.param("interrupt.source", {"source": "user:Ryan"}, id="a source in capitals"),
        pytest.param("interrupt.source", {"source": "agent:ryan"}, id="an agent that is no session"),
        pytest.param("interrupt.body", {"nudge": None}, id="no body"),
        pytest.param("interrupt.nudge.text", {"nudge": {}}, id="no text"),
        pytest.param("interrupt.nudge.text", {"nudge": {"text": " \n"}}, id="a text of blanks"),
        pytest.param("interrupt.nudge.text", {"nudge": {"text": LONG_TEXT}}, id="a text that is too long"),
        pytest.param("interrupt.nudge.text", {"nudge": {"text": "\0"}}, id="a control character"),
        pytest.param("interrupt.delivery", {"delivery": 77}, id="an unknown delivery"),
    ],
)
async def test_a_malformed_interrupt_is_refused_and_the_field_is_named(
    spark: Spark, sessions: Sessions, refused, field: str, changes: dict
) -> None:
    check(await refused(spark, nudge(sessions.quiet, **changes), "malformed"), INVALID, field)


@by_every_way
async def test_an_interrupt_for_an_unknown_session_is_refused(spark: Spark, refused) -> None:
    check(await refused(spark, nudge(UNKNOWN_ID), "unknown"), NO_SESSION)


@by_every_way
async def test_an_interrupt_for_an_ended_session_is_refused(
    spark: Spark, sessions: Sessions, refused
) -> None:
    ended = ("FAILED_PRECONDITION", "SESSION_ENDED")
    check(await refused(spark, nudge(sessions.ended), "late"), ended)


@by_every_way
async def test_a_clock_may_not_nudge(spark: Spark, sessions: Sessions, refused) -> None:
    not_allowed = ("PERMISSION_DENIED", "SOURCE_NOT_ALLOWED")
    check(await refused(spark, nudge(sessions.quiet, source="cron:morning"), "cron"), not_allowed)


@by_every_way
async def test_a_request_id_with_another_body_is_refused(spark: Spark, sessions: Sessions, refused) -> None:
    check(await refused(spark, nudge(sessions.ended, nudge={"text": "Look south."}), "once"), REUSED)


async def test_a_post_that_is_repeated_is_never_refused_though_the_session_has_ended_since(
    spark: Spark, sessions: Sessions
) -> None:
    again = await spark.gateway.call("PostInterrupt", interrupt=nudge(sessions.ended), request_id="once")
    assert again.duplicate
    assert again.interrupt.state == INTERRUPT_STATE_CANCELLED


async def test_a_post_without_an_interrupt_is_refused(spark: Spark) -> None:
    check(await spark.gateway.refusal("PostInterrupt"), INVALID, "interrupt")


async def test_an_error_names_the_request_id_that_the_gateway_chose(spark: Spark) -> None:
    refused = await spark.gateway.refusal("PostInterrupt", interrupt=nudge(UNKNOWN_ID))
    assert refused.metadata["request_id"]


@both_doors
@pytest.mark.parametrize(
    ("interrupt_id", "kind", "field"),
    [
        pytest.param(UNKNOWN_ID, NO_INTERRUPT, "", id="an unknown id"),
        pytest.param("1-2-3", INVALID, "interrupt_id", id="a malformed id"),
        pytest.param("", INVALID, "interrupt_id", id="no id"),
    ],
)
@pytest.mark.parametrize("method", ["GetInterrupt", "CancelInterrupt", "WatchInterrupt"])
async def test_an_interrupt_that_is_none_is_refused(
    spark: Spark, door: str, method: str, interrupt_id: str, kind: tuple[str, str], field: str
) -> None:
    check(await doors(spark)[door].refusal(method, interrupt_id=interrupt_id), kind, field)


@both_doors
@pytest.mark.parametrize(
    ("kind", "field", "fields"),
    [
        pytest.param(INVALID, "session_id", {}, id="no session"),
        pytest.param(INVALID, "session_id", {"session_id": "1-2-3"}, id="a malformed session id"),
        pytest.param(NO_SESSION, "", {"session_id": UNKNOWN_ID}, id="an unknown session"),
        pytest.param(INVALID, "states", {"session_id": UNKNOWN_ID, "states": [77]}, id="an unknown state"),
        pytest.param(INVALID, "page_size", {"session_id": UNKNOWN_ID, "page_size": -1}, id="a negative size"),
        pytest.param(
            INVALID, "page_token", {"session_id": UNKNOWN_ID, "page_token": "next"}, id="a forged token"
        ),
    ],
)
async def test_a_listing_of_interrupts_is_refused_by_its_name(
    spark: Spark, door: str, kind: tuple[str, str], field: str, fields: dict
) -> None:
    check(await doors(spark)[door].refusal("ListInterrupts", **fields), kind, field)


@both_doors
async def test_an_interrupt_that_is_cancelled_can_be_cancelled_again(
    spark: Spark, sessions: Sessions, door: str
) -> None:
    called = doors(spark)[door]
    [settled] = (await called.call("ListInterrupts", session_id=sessions.ended)).interrupts
    assert settled.state == INTERRUPT_STATE_CANCELLED
    again = await called.call("CancelInterrupt", interrupt_id=settled.interrupt_id)
    assert again.interrupt == settled


async def test_a_batch_that_is_too_large_is_refused(spark: Spark) -> None:
    check(await spark.gateway.refusal("BatchPostInterrupts", requests=[{}] * 501), INVALID, "requests")


@pytest.mark.parametrize(
    ("kind", "field", "method", "fields"),
    [
        (INVALID, "session", "CreateSession", {}),
        (INVALID, "session.goal", "CreateSession", {"session": {}}),
        (INVALID, "session.goal", "CreateSession", {"session": {"goal": LONG_TEXT}}),
        (NOT_CONFIGURED, "", "CreateSession", {"session": {"goal": "x", "config": {"model": "nobody"}}}),
        (NOT_CONFIGURED, "", "CreateSession", {"session": {"goal": "x", "config": {"tools": ["hammer"]}}}),
        (REUSED, "", "CreateSession", {"session": {"goal": "Be loud."}, "request_id": "quiet"}),
        (INVALID, "session_id", "GetSession", {}),
        (INVALID, "session_id", "GetSession", {"session_id": "1-2-3"}),
        (NO_SESSION, "", "GetSession", {"session_id": UNKNOWN_ID}),
        (NO_SESSION, "", "EndSession", {"session_id": UNKNOWN_ID}),
        (NO_SESSION, "", "StreamTranscript", {"session_id": UNKNOWN_ID}),
        (INVALID, "after_revision", "StreamTranscript", {"session_id": UNKNOWN_ID, "after_revision": -1}),
        (INVALID, "session_id", "ListMessages", {}),
        (NO_SESSION, "", "ListMessages", {"session_id": UNKNOWN_ID}),
        (INVALID, "page_token", "ListMessages", {"session_id": UNKNOWN_ID, "page_token": "next"}),
        (INVALID, "page_size", "ListSessions", {"page_size": -1}),
        (INVALID, "page_token", "ListSessions", {"page_token": "next"}),
        (INVALID, "deposits", "DepositInterrupts", {"deposits": [{}] * 501}),
    ],
    ids=lambda value: value[1] if isinstance(value, tuple) else str(value)[:60],
)
async def test_the_agent_service_refuses_a_bad_request_by_its_name(
    spark: Spark, kind: tuple[str, str], field: str, method: str, fields: dict
) -> None:
    check(await spark.agent.refusal(method, **fields), kind, field)


async def test_a_cursor_from_the_future_is_refused(spark: Spark, sessions: Sessions) -> None:
    out_of_range = ("OUT_OF_RANGE", "REVISION_OUT_OF_RANGE")
    refused = await spark.agent.refusal("StreamTranscript", session_id=sessions.quiet, after_revision=2)
    check(refused, out_of_range)
    assert refused.metadata["newest_revision"] == "1"


@both_doors
async def test_bytes_that_are_no_message_are_refused_by_every_method(spark: Spark, door: str) -> None:
    called = doors(spark)[door]
    methods = Default().FindServiceByName(called.service).methods
    assert methods
    async with grpc.aio.insecure_channel(called.address) as channel:
        for method in methods:
            kind = channel.unary_stream if method.server_streaming else channel.unary_unary
            call = kind(f"/{called.service}/{method.name}")(b"\xff")
            assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT
            details = dict(await call.trailing_metadata())["grpc-status-details-bin"]
            check(Refused(Status.FromString(details)), INVALID)
