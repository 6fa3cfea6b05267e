"""The picture of a run shows what the summary says, where it says it."""

from io import BytesIO

import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection, PolyCollection

from tests.torture.report import Span, Summary, Wait
from tests.torture.timeline import draw

FAULTS = [Span("kill", "agent-1", 3, 4), Span("freeze", "agent-2", 5, 9), Span("kill", "agent-2", 7, 7)]
WAITS = [Wait(1, 3), Wait(2, 0.5)]
TOLD = Summary({"seed": 7}, 10, 11, {}, FAULTS, WAITS, 5)


def test_each_fault_is_a_bar_beside_the_name_of_its_kind_as_long_as_it_lasted() -> None:
    above = draw(TOLD).axes[0]
    names = [label.get_text() for label in above.get_yticklabels()]
    extents = [bar.get_paths()[0].get_extents() for bar in collections(above, PolyCollection)]
    drawn = [(names[round((bar.y0 + bar.y1) / 2)], bar.x0, pytest.approx(bar.x1)) for bar in extents]
    # One that was over at once is there to be seen too.
    assert drawn == [("kill", 3, 4), ("freeze", 5, 9), ("kill", 7, 7.1)]


def test_each_wait_is_a_point_by_when_it_was_posted_and_how_long_it_took() -> None:
    below = draw(TOLD).axes[1]
    (points,) = collections(below, PathCollection)
    assert points.get_offsets().tolist() == [[1, 3], [2, 0.5]]
    assert below.get_yscale() == "log"


def test_both_halves_share_the_time_and_say_when_it_became_calm() -> None:
    above, below = draw(TOLD).axes
    assert above.get_shared_x_axes().joined(above, below)
    for axes in (above, below):
        (calm,) = (line for line in axes.lines if line.get_label() == "calm")
        assert set(calm.get_xdata()) == {10}
    assert "seed 7" in above.get_title()


@pytest.mark.parametrize(("faults", "waits"), [(FAULTS, WAITS), ([], [])])
def test_every_run_has_a_picture_a_quiet_one_too(faults: list[Span], waits: list[Wait]) -> None:
    picture = BytesIO()
    draw(Summary({"seed": 7}, 10, 11, {}, faults, waits, 0)).savefig(picture, format="png")
    assert picture.getvalue().startswith(b"\x89PNG")


def collections(axes: Axes, kind: type) -> list:
    return [drawn for drawn in axes.collections if isinstance(drawn, kind)]
