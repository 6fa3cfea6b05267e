"""`python -m tests.torture.overview DIR…`: what several runs have come to, judged once more, in one table."""

import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from tests.torture.checker.checks import violations
from tests.torture.checker.reading import read
from tests.torture.report import Summary, summary

COUNTED = ("attempts to post", "acknowledged", "delivered", "seen", "settled", "model requests")


def overview(runs: Sequence[tuple[Summary, int]]) -> str:
    """A line for each run, and for what can be added up a line for all; a run comes with its violations."""
    heads = ("seed", "seconds", "faults", *COUNTED, "post to seen", "longest gap", "violations")
    lines = [_line(told, broken) for told, broken in runs]
    sums = [
        "all",
        f"{sum(told.run['seconds'] for told, _ in runs):,g}",
        f"{sum(len(told.faults) for told, _ in runs):,}",
        *(f"{sum(told.counts[name] for told, _ in runs):,}" for name in COUNTED),
        "",
        f"{max(told.longest_gap for told, _ in runs):.1f} s",
        f"{sum(broken for _, broken in runs):,}",
    ]
    ruler = ["---:"] * len(heads)
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (heads, ruler, *lines, sums))


def _line(told: Summary, broken: int) -> list[str]:
    return [
        str(told.run["seed"]),
        f"{told.run['seconds']:,g}",
        f"{len(told.faults):,}",
        *(f"{told.counts[name]:,}" for name in COUNTED),
        f"{median(wait.seconds for wait in told.waits):.2f} s" if told.waits else "",
        f"{told.longest_gap:.1f} s",
        f"{broken:,}",
    ]


if __name__ == "__main__":
    directories = [Path(name) for name in sys.argv[1:]]
    print(overview([(summary(one), len(violations(read(one)))) for one in directories]), end="")
