"""Figures as pictures."""

from collections.abc import Sequence
from pathlib import Path
from statistics import median, quantiles

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FuncFormatter, PercentFormatter

from benchmarks.figures import AtLeast, AtMost, Figure, together

OURS, BARE, BAR = "tab:blue", "tab:gray", "tab:red"
WIDTH_INCHES, LINE_INCHES, MARGIN_INCHES = 10, 0.3, 1.2
DOTS_PER_INCH = 90
MILLISECONDS = 1e3


def draw(figures: Sequence[Figure], directory: Path) -> None:
    """`ratios.png`: every figure beside its bar. `wake.png`: how long sleeping sessions took to wake."""
    directory.mkdir(parents=True, exist_ok=True)
    _ratios(figures).savefig(directory / "ratios.png", dpi=DOTS_PER_INCH)
    if wakes := [
        figure for figure in figures if figure.name.startswith("wake, ") and figure.statistic is median
    ]:
        _latencies(wakes).savefig(directory / "wake.png", dpi=DOTS_PER_INCH)


def _ratios(figures: Sequence[Figure]) -> Canvas:
    """A line for each figure: a dot for each block, a stroke for the median, an arrow where it should be."""
    canvas = Canvas((WIDTH_INCHES, MARGIN_INCHES + LINE_INCHES * len(figures)), layout="constrained")
    axes = canvas.subplots()
    for line, figure in enumerate(figures):
        axes.plot(figure.ratios, [line] * len(figure.ratios), "o", color=OURS, alpha=0.3, markersize=4)
        axes.plot([figure.ratio], [line], "|", color=OURS, markersize=12, markeredgewidth=2)
        _draw_bar(axes, figure.bar, line)
    axes.set_yticks(
        range(len(figures)), [f"{figure.name}\nto {figure.baseline}" for figure in figures], size=6
    )
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda ratio, _: f"{ratio:g}"))
    axes.set_xlabel("ratio to the baseline; red points to where it should be")
    axes.grid(alpha=0.3)
    return canvas


def _draw_bar(axes: Axes, bar: AtMost | AtLeast | None, line: int) -> None:
    if bar:
        axes.plot([bar.ratio], [line], marker="<" if isinstance(bar, AtMost) else ">", color=BAR)


def _latencies(figures: Sequence[Figure]) -> Canvas:
    """The share of wakes that took at most so long, beside that of the bare chain."""
    canvas = Canvas((WIDTH_INCHES, 3.5), layout="constrained")
    all_axes = canvas.subplots(1, len(figures), squeeze=False, sharey=True)[0]
    for axes, figure in zip(all_axes, figures, strict=True):
        measured, baseline = together(figure.blocks)
        axes.ecdf([seconds * MILLISECONDS for seconds in measured], color=OURS, label="Spark")
        axes.ecdf([seconds * MILLISECONDS for seconds in baseline], color=BARE, label="bare chain")
        axes.set_title(figure.name, size=9)
        axes.set_xlabel("milliseconds")
        axes.set_xlim(0, MILLISECONDS * quantiles(measured, n=200)[-1])
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.legend()
        axes.grid(alpha=0.3)
    return canvas
