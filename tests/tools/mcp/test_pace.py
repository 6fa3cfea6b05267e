"""How fast a server may speak, and how soon it is started again."""

import pytest
from mcp.types import JSONRPCNotification, JSONRPCRequest

from agent_service.tools.mcp.failures import Broken
from agent_service.tools.mcp.meter import Meter
from agent_service.tools.mcp.tool_set import PATIENT


def test_messages_are_counted_up_to_the_measure() -> None:
    meter = Meter(max_a_second=100_000)
    for _ in range(1000):
        meter.count()


def test_too_many_messages_in_a_second_are_the_end() -> None:
    # Even if a second should begin in the middle.
    meter = Meter(max_a_second=3)
    with pytest.raises(Broken, match=r"^sent more than 3 messages in a second$"):
        all(meter.count() is None for _ in range(8))


def test_a_message_of_too_many_parts_is_the_end() -> None:
    meter = Meter()
    meter.weigh(b"[" * 100_000 + b"a" * 1_000_000)
    with pytest.raises(Broken, match=r"^sent more than 250000 lists and objects in a second$"):
        meter.weigh(b"{}[" * 125_001)


def test_too_many_requests_in_a_minute_are_the_end() -> None:
    meter, ping = Meter(), JSONRPCRequest(jsonrpc="2.0", id=1, method="ping")
    for _ in range(100):
        meter.heed(ping)
        meter.heed(JSONRPCNotification(jsonrpc="2.0", method="notifications/message"))
    with pytest.raises(Broken, match=r"^sent more than 100 requests in a minute$"):
        meter.heed(ping)


@pytest.mark.parametrize(("failures", "longest"), [(1, 0.5), (2, 1), (3, 2), (7, 32), (8, 60), (1000, 60)])
def test_a_server_that_fails_is_left_alone_for_longer_each_time(failures: int, longest: float) -> None:
    pauses = [PATIENT.pause(failures) for _ in range(50)]
    assert longest / 2 <= min(pauses) < max(pauses) <= longest
