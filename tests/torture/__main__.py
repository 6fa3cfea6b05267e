"""`python -m tests.torture`: everything at once that can go wrong, and what came of it."""

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from tests.torture.bugs.bug import BUGS, read
from tests.torture.plan import Kind
from tests.torture.report import markdown, summary


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="how long faults happen")
    parser.add_argument("--seed", type=int, default=1, help="of the order of the faults and of their targets")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where everything is left")
    parser.add_argument("--sessions", type=int, default=24, help="at work at the same time")
    parser.add_argument("--kinds", nargs="+", type=Kind, choices=tuple(Kind), default=tuple(Kind))
    parser.add_argument("--lines", default="", metavar="END", help="cut and held: those whose names end so")
    parser.add_argument("--bug", choices=BUGS, help="planted into the product")
    told = parser.parse_args()
    told.out.mkdir(parents=True, exist_ok=True)
    # As in the services: forks start processes, without the care of grpc, which reads this as it is imported.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    from tests.torture.run import Order, run

    with _home(told.bug) as home:
        order = Order(told.seconds, told.seed, told.sessions, told.kinds, told.lines, home)
        asyncio.run(run(order, told.out.resolve()))
    return _judge(told.out)


@contextmanager
def _home(bug: str | None) -> Iterator[Path]:
    """Of the product as it is, or of a copy that has the bug."""
    if bug is None:
        yield Path("/")
        return
    with tempfile.TemporaryDirectory() as copy:
        read(BUGS[bug]).plant(Path(copy))
        yield Path(copy)


def _judge(directory: Path) -> int:
    """Write the report. Gives the checker's exit code."""
    command = [sys.executable, "-m", "tests.torture.checker", str(directory)]
    checker = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    told, picture = summary(directory), None
    if find_spec("matplotlib"):
        from tests.torture.timeline import draw

        picture = "timeline.png"
        draw(told).savefig(directory / picture)
    page = markdown(told, checker.stdout, picture)
    (directory / "report.md").write_text(page)
    print(page)
    return checker.returncode


if __name__ == "__main__":
    sys.exit(main())
