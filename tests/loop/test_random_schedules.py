"""Whatever happens to a session, in whatever order: the invariants of the design hold in the end.

`SCHEDULES=10000 pytest tests/loop/test_random_schedules.py` plays so many, each time others.
"""

import os

import pytest
from hypothesis import HealthCheck, given, settings

from tests.loop.schedules.chance import schedules
from tests.loop.schedules.plan import Schedule
from tests.loop.schedules.validator import violations
from tests.loop.schedules.world import played
from tests.support import Store

ASKED_FOR = os.environ.get("SCHEDULES")


# Every run in it has a limit of its own.
@pytest.mark.timeout(0)
@settings(
    max_examples=int(ASKED_FOR or 120),
    derandomize=not ASKED_FOR,
    deadline=None,
    # Each schedule has a session of its own in the database that they share.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(schedules())
async def test_no_schedule_breaks_an_invariant(store: Store, schedule: Schedule) -> None:
    assert violations(await played(store, schedule)) == []
