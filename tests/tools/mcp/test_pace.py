"""How fast a server may speak, and how soon it is started again."""

import pytest

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


@pytest.mark.parametrize(("failures", "longest"), [(1, 0.5), (2, 1), (3, 2), (7, 32), (8, 60), (1000, 60)])
def test_a_server_that_fails_is_left_alone_for_longer_each_time(failures: int, longest: float) -> None:
    pauses = [PATIENT.pause(failures) for _ in range(50)]
    assert longest / 2 <= min(pauses) < max(pauses) <= longest
