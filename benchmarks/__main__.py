"""Runs the benchmarks and shows their figures."""

import argparse
import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path
from typing import TypeAlias

from agent_service.store.embedded import embedded_postgres
from benchmarks import batch, crowd, fanout, post, prefix, recovery, report, rounds, wake
from benchmarks.bench import Bench
from benchmarks.figures import Figure
from benchmarks.peers import wakes

_Benchmark: TypeAlias = Callable[[Bench], Awaitable[list[Figure]]]

BENCHMARKS: dict[str, _Benchmark] = {
    "batch": batch.figures,
    "post": post.figures,
    "wake": wake.figures,
    "round": rounds.figures,
    "prefix": prefix.figures,
    "fanout": fanout.figures,
    "crowd": crowd.figures,
    "recovery": recovery.figures,
    "peers": wakes.figures,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="only see that everything works")
    parser.add_argument("--only", choices=BENCHMARKS, action="append", help="run this one; may be repeated")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write them with all samples")
    parser.add_argument("--plots", type=Path, metavar="DIRECTORY", help="draw them")
    parser.add_argument("--readme", type=Path, metavar="FILE", help="put them into its table")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        # PostgreSQL may run as another user, who has to get in.
        Path(name).chmod(0o755)
        with embedded_postgres(Path(name)) as url:
            bench = Bench(url, Path(name), arguments.smoke)
            figures = asyncio.run(_measure(bench, arguments.only or BENCHMARKS))
    print(report.table(figures))
    if arguments.json:
        arguments.json.write_text(report.as_json(figures))
    if arguments.readme:
        arguments.readme.write_text(report.into_readme(figures, arguments.readme.read_text()))
    if arguments.plots:
        # Brings matplotlib, which nothing else needs.
        from benchmarks import plots

        plots.draw(figures, arguments.plots)


async def _measure(bench: Bench, names: Collection[str]) -> list[Figure]:
    return [figure for name in names for figure in await BENCHMARKS[name](bench)]


if __name__ == "__main__":
    main()
