"""Signed POSTs become notifications, and nothing else does."""

from collections.abc import AsyncIterator
from http import HTTPStatus

import grpc
import pytest
from openai import OpenAI

from tests.examples.optimizer.scripted_gateway import ScriptedGateway, running
from tests.examples.webhook.running import SECRET, deliver, endpoint, signed

BODY = (
    b'{"type": "ship.sighted", "timestamp": "2026-01-01T07:00:00Z", "data": {"name": "Beagle", "knots": 7}}'
)
TOO_LONG = b"[" + b" " * 64 * 1024


@pytest.fixture
def gateway() -> ScriptedGateway:
    return ScriptedGateway()


@pytest.fixture
async def url(gateway: ScriptedGateway) -> AsyncIterator[str]:
    async with running(gateway) as address, endpoint(address, "pilot", "s1") as url:
        yield url


async def test_a_signed_post_is_a_notification(gateway: ScriptedGateway, url: str) -> None:
    assert await deliver(url, BODY, signed("d1", BODY)) is HTTPStatus.NO_CONTENT
    [request] = gateway.attempts
    interrupt = request.interrupt
    assert (interrupt.session_id, interrupt.source, request.request_id) == ("s1", "webhook:pilot", "d1")
    assert interrupt.notification.type == "ship.sighted"
    assert dict(interrupt.notification.data) == {"name": "Beagle", "knots": 7}


async def test_a_delivery_that_is_repeated_is_one_notification(gateway: ScriptedGateway, url: str) -> None:
    gateway.failures, gateway.keeps_what_it_fails = [grpc.StatusCode.UNAVAILABLE], True
    assert await deliver(url, BODY, signed("d1", BODY)) is HTTPStatus.SERVICE_UNAVAILABLE
    assert await deliver(url, BODY, signed("d1", BODY)) is HTTPStatus.NO_CONTENT
    assert len(gateway.attempts) == 2
    assert list(gateway.posted) == ["d1"]


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (BODY, {}, HTTPStatus.UNAUTHORIZED),
        (BODY, signed("d1", BODY, key=b"another"), HTTPStatus.UNAUTHORIZED),
        (BODY, signed("d1", BODY[:-1]), HTTPStatus.UNAUTHORIZED),
        (BODY, signed("d1", BODY) | {"webhook-id": "d2"}, HTTPStatus.UNAUTHORIZED),
        (BODY, signed("", BODY), HTTPStatus.UNAUTHORIZED),
        (b"[]", signed("d1", b"[]"), HTTPStatus.BAD_REQUEST),
        (b"\xff", signed("d1", b"\xff"), HTTPStatus.BAD_REQUEST),
        (TOO_LONG, signed("d1", TOO_LONG), HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
    ],
    ids=["unsigned", "key", "body", "id", "no-id", "list", "bytes", "long"],
)
async def test_what_is_not_signed_or_makes_no_sense_is_refused(
    gateway: ScriptedGateway, url: str, body: bytes, headers: dict[str, str], status: HTTPStatus
) -> None:
    assert await deliver(url, body, headers) is status
    assert gateway.attempts == []


async def test_what_the_gateway_refuses_need_not_be_repeated(gateway: ScriptedGateway, url: str) -> None:
    gateway.failures = [grpc.StatusCode.FAILED_PRECONDITION]
    assert await deliver(url, BODY, signed("d1", BODY)) is HTTPStatus.UNPROCESSABLE_ENTITY


def test_deliveries_are_signed_here_as_others_sign_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 1700000000)
    with OpenAI(api_key="none") as client:
        client.webhooks.verify_signature(BODY.decode(), signed("d1", BODY), secret=SECRET)
