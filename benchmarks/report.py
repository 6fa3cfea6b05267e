"""Figures as a table for a terminal, as JSON, and as the table of the README."""

import json
from collections.abc import Sequence

from benchmarks.figures import Figure

_BEGIN, _END = "<!-- figures: made by make bench -->", "<!-- end of figures -->"


def table(figures: Sequence[Figure]) -> str:
    """One line each. A figure on the wrong side of its bar has a cross."""
    rows = [("figure", "ratio", "min-max", "bar", "", "to")]
    for figure in figures:
        spread = f"{min(figure.ratios):.3g}-{max(figure.ratios):.3g}"
        to = f"{figure.baseline}; {figure.note}" if figure.note else figure.baseline
        bar, mark = str(figure.bar or ""), "" if figure.kept else "✗"
        rows.append((figure.name, f"{figure.ratio:.3g}", spread, bar, mark, to))
    name_width = max(len(name) for name, *_ in rows)
    return "\n".join(
        f"{name:{name_width}} {ratio:>6} {spread:>11} {bar:>7} {mark:1}  {to}"
        for name, ratio, spread, bar, mark, to in rows
    )


def into_readme(figures: Sequence[Figure], readme: str) -> str:
    """The README with these figures in its table, in place of those before."""
    before, _, rest = readme.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    return f"{before}{_BEGIN}\n{_markdown(figures)}\n{_END}{after}"


def _markdown(figures: Sequence[Figure]) -> str:
    rows = ["| figure | to | ratio | bar | what limits it now |", "|---|---|---|---|---|"]
    for figure in figures:
        name = f"{figure.name} ({figure.note})" if figure.note else figure.name
        ratio = f"{figure.ratio:.3g}" if figure.kept else f"**{figure.ratio:.3g}**"
        rows.append(f"| {name} | {figure.baseline} | {ratio} | {figure.bar or ''} | {figure.limit} |")
    return "\n".join(rows)


def as_json(figures: Sequence[Figure]) -> str:
    entries = [
        {
            "name": figure.name,
            "baseline": figure.baseline,
            "ratio": figure.ratio,
            "ratios": figure.ratios,
            "bar": str(figure.bar or ""),
            "kept": figure.kept,
            "limit": figure.limit,
            "note": figure.note,
            "blocks": [block._asdict() for block in figure.blocks],
        }
        for figure in figures
    ]
    return json.dumps({"figures": entries}, indent=2) + "\n"
