from itertools import chain
from uuid import uuid4

import pytest

from agent_service.domain import SessionId
from agent_service.wakeups.hints import Hints, payloads, read

ORIGIN = uuid4()


def ids(count: int) -> list[SessionId]:
    return [SessionId(uuid4()) for _ in range(count)]


@pytest.mark.parametrize("leaving", [True, False])
@pytest.mark.parametrize("count", [0, 1, 180, 181, 1000])
def test_what_is_sent_is_what_is_read_in_payloads_that_postgresql_takes(count: int, leaving: bool) -> None:
    session_ids = ids(count)
    sent = list(payloads(ORIGIN, leaving, session_ids))
    received = [read(payload) for payload in sent]
    assert list(chain.from_iterable(hints.session_ids for hints in received if hints)) == session_ids
    assert {(hints.origin, hints.leaving) for hints in received if hints} == {(ORIGIN, leaving)}
    assert max(len(payload.encode()) for payload in sent) < 8000


def test_ten_thousand_sessions_are_a_few_payloads() -> None:
    assert len(list(payloads(ORIGIN, False, ids(10_000)))) < 60


@pytest.mark.parametrize(
    "payload",
    [
        None,
        "",
        "wake up",
        "null",
        "[]",
        "{}",
        '{"origin": 1, "leaving": false, "session_ids": []}',
        f'{{"origin": "{ORIGIN}", "leaving": "often", "session_ids": []}}',
        f'{{"origin": "{ORIGIN}", "leaving": false, "session_ids": ["everybody"]}}',
        f'{{"origin": "{ORIGIN}", "leaving": false, "session_ids": {{"a": "b"}}}}',
        "[" * 7000,
        "\x00\U0010ffff",
        "\ud800",
    ],
)
def test_what_no_replica_sends_is_nothing(payload: object) -> None:
    assert read(payload) is None


def test_what_a_later_version_adds_is_left_out() -> None:
    [payload] = payloads(ORIGIN, False, [])
    assert read(payload.replace("{", '{"revision": 7, ', 1)) == Hints(ORIGIN, False, ())
