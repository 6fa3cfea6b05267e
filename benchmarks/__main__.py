"""Runs every benchmark and prints the figures."""

import argparse
import asyncio
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import asyncpg

from agent_service.store.embedded import embedded_postgres
from benchmarks import fanout, loop, post, prefix, wake
from benchmarks.chains import both_chains
from benchmarks.figures import Figure, Size


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="only see that everything works")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures into a file, too")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        # PostgreSQL may run as another user, who has to get in.
        Path(name).chmod(0o755)
        with embedded_postgres(Path(name)) as url:
            figures = asyncio.run(_measure(url, Path(name), arguments.smoke))
    print(_table(figures))
    if arguments.json:
        arguments.json.write_text(_json(figures, arguments.smoke))


async def _measure(url: str, directory: Path, smoke: bool) -> list[Figure]:
    def size(pairs: int) -> Size:
        return Size(blocks=2, pairs=1) if smoke else Size(blocks=9, pairs=pairs)

    figures = await loop.figures(await _new_database(url, "loop"), size(pairs=4))
    figures += await prefix.figures(await _new_database(url, "prefix"))
    services_url, baseline_url = await _new_database(url, "services"), await _new_database(url, "baseline")
    async with both_chains(services_url, baseline_url, directory) as chains:
        figures += await post.figures(chains, alone=size(pairs=100), together=size(pairs=3))
        figures += await wake.figures(chains, size(pairs=20))
    fanout_url = await _new_database(url, "fanout")
    figures += await fanout.figures(fanout_url, directory, smoke, alone=size(pairs=3), together=size(pairs=1))
    return figures


async def _new_database(url: str, name: str) -> str:
    connection = await asyncpg.connect(url)
    await connection.execute(f'CREATE DATABASE "{name}"')
    await connection.close()
    return url.replace("/postgres?", f"/{name}?")


def _table(figures: Sequence[Figure]) -> str:
    rows = [("figure", "ratio", "min-max", "bar", "to")]
    for figure in figures:
        spread = f"{min(figure.ratios):.2f}-{max(figure.ratios):.2f}"
        bar = "" if figure.bar is None else f"{figure.bar:.2f}"
        to = f"{figure.baseline}; {figure.note}" if figure.note else figure.baseline
        rows.append((figure.name, f"{median(figure.ratios):.2f}", spread, bar, to))
    name_width = max(len(name) for name, *_ in rows)
    return "\n".join(
        f"{name:{name_width}} {ratio:>6} {spread:>10} {bar:>5}  {to}" for name, ratio, spread, bar, to in rows
    )


def _json(figures: Sequence[Figure], smoke: bool) -> str:
    entries = [
        {
            "name": figure.name,
            "baseline": figure.baseline,
            "ratio": median(figure.ratios),
            "ratios": figure.ratios,
            "bar": figure.bar,
            "note": figure.note,
        }
        for figure in figures
    ]
    return json.dumps({"smoke": smoke, "figures": entries}, indent=2) + "\n"


if __name__ == "__main__":
    main()
