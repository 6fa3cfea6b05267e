"""Two things measured in turn, and the ratio of what they come to."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from statistics import median
from typing import NamedTuple, TypeAlias

# Does once what is measured, and gives the seconds that it took, or how much of it a second has room for.
Sample: TypeAlias = Callable[[], Awaitable[float]]
# What samples come to.
Statistic: TypeAlias = Callable[[Sequence[float]], float]


@dataclass(frozen=True, slots=True)
class Size:
    """How often to measure: blocks, each of so many pairs of samples."""

    blocks: int
    pairs: int

    @property
    def samples(self) -> int:
        """How many are taken of either side. The first is not counted."""
        return 1 + self.blocks * self.pairs


class Block(NamedTuple):
    """Samples of either side, taken in turn."""

    measured: Sequence[float]
    baseline: Sequence[float]


@dataclass(frozen=True, slots=True)
class AtMost:
    ratio: float

    def __str__(self) -> str:
        return f"≤ {self.ratio:g}"


@dataclass(frozen=True, slots=True)
class AtLeast:
    ratio: float

    def __str__(self) -> str:
        return f"≥ {self.ratio:g}"


@dataclass(frozen=True, slots=True)
class Figure:
    """A ratio to the baseline, and the bar that it should keep, None where nothing is asked of it.

    `limit` says what keeps it from being better. A statistic other than the median is named in `name`.
    """

    name: str
    baseline: str
    bar: AtMost | AtLeast | None
    blocks: Sequence[Block]
    limit: str = ""
    note: str = ""
    statistic: Statistic = median

    @property
    def ratios(self) -> list[float]:
        """One for each block."""
        return [self.statistic(block.measured) / self.statistic(block.baseline) for block in self.blocks]

    @property
    def ratio(self) -> float:
        return median(self.ratios)

    @property
    def kept(self) -> bool:
        """Whether the ratio is on the right side of its bar."""
        match self.bar:
            case AtMost(most):
                return self.ratio <= most
            case AtLeast(least):
                return self.ratio >= least
            case None:
                return True


async def compare(size: Size, measured: Sample, baseline: Sample) -> list[Block]:
    """Take samples of both in turn, so that what disturbs the one disturbs the other."""
    await measured()
    await baseline()
    blocks = []
    for _ in range(size.blocks):
        pairs = [(await measured(), await baseline()) for _ in range(size.pairs)]
        blocks.append(Block(*zip(*pairs, strict=True)))
    return blocks


def together(blocks: Sequence[Block]) -> Block:
    """All samples as one block, for a statistic that needs many."""
    return Block(
        list(chain.from_iterable(block.measured for block in blocks)),
        list(chain.from_iterable(block.baseline for block in blocks)),
    )


def tail(samples: Sequence[float]) -> float:
    """The 99th percentile as a multiple of the median."""
    return sorted(samples)[len(samples) * 99 // 100] / median(samples)
