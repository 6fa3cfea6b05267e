"""The picture of a run: faults above, how long interrupts took from post to seen below."""

from matplotlib.figure import Figure

from tests.torture.report import Summary


def draw(told: Summary) -> Figure:
    figure = Figure(figsize=(12, 7), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    kinds = sorted({fault.kind for fault in told.faults}, reverse=True)
    for fault in told.faults:
        span = fault.begin, max(fault.end - fault.begin, 0.1)
        above.broken_barh([span], (kinds.index(fault.kind) - 0.4, 0.8), alpha=0.6)
    above.set_yticks(range(len(kinds)), kinds)
    above.set_title(f"Torture, seed {told.run['seed']}")
    below.scatter([wait.posted for wait in told.waits], [wait.seconds for wait in told.waits], s=4)
    below.set_yscale("log")
    below.set_ylabel("from post to seen, seconds")
    below.set_xlabel("seconds since the beginning")
    for axes in (above, below):
        axes.axvline(told.calm, linestyle="--", label="calm")
        axes.grid(alpha=0.3)
    below.legend()
    return figure
