"""A point is met at its call, and by nothing before it."""

from functools import partial
from pathlib import Path

import pytest

from tests.torture.crash.life import lives
from tests.torture.crash.point import Point, When
from tests.torture.history import history


class Worker:
    def __init__(self) -> None:
        self.said: list[str] = []

    async def work(self) -> str:
        self.said.append("work")
        return "done"

    def rest(self) -> str:
        self.said.append("rest")
        return "rested"


WORK, REST = (f"{__name__}:Worker.{name}" for name in ("work", "rest"))


@pytest.fixture(autouse=True)
def restored(monkeypatch: pytest.MonkeyPatch) -> None:
    """What points put into the places of these functions is gone after the test."""
    for name in ("work", "rest"):
        monkeypatch.setattr(Worker, name, getattr(Worker, name))


async def told(point: Point) -> list[str]:
    """What a worker says that works, rests, works, and rests, and acts at the point."""
    worker = Worker()
    point.arm(partial(worker.said.append, "here"))
    for _ in range(2):
        assert await worker.work() == "done"
        assert worker.rest() == "rested"
    return worker.said


@pytest.mark.parametrize(
    ("point", "said"),
    [
        (Point(When.BEFORE, WORK), "here work rest work rest"),
        (Point(When.AFTER, WORK, 2), "work rest work here rest"),
        (Point(When.BEFORE, REST, 2), "work rest work here rest"),
        (Point(When.AFTER, REST), "work rest here work rest"),
        (Point(When.BEFORE, WORK, since=Point(When.AFTER, REST)), "work rest here work rest"),
    ],
    ids=str,
)
async def test_a_point_is_at_its_call(point: Point, said: str) -> None:
    assert await told(point) == said.split()


def test_a_function_that_is_not_there_is_no_point() -> None:
    with pytest.raises(AttributeError, match="wrok"):
        Point(When.BEFORE, f"{__name__}:Worker.wrok").arm()


async def test_who_ends_otherwise_has_not_died_at_its_point(tmp_path: Path) -> None:
    """As where nothing has this name."""
    point = Point(When.BEFORE, "gateway.server:nothing")
    with history(tmp_path) as written:
        async with lives("gateway-1", "gateway", written, point) as gateway:
            with pytest.raises(AssertionError, match="did not die before call 1"):
                await gateway.until_dead(point)
