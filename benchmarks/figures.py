"""Two things measured in turn, and the ratio of their times."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple, TypeAlias

# Does once what is measured, and returns how long it took, in seconds.
Sample: TypeAlias = Callable[[], Awaitable[float]]


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
    """The medians over the pairs of a block, in seconds."""

    measured: float
    baseline: float


@dataclass(frozen=True, slots=True)
class Figure:
    """The bar is the most that the ratio should be, None where nothing is asked of it."""

    name: str
    baseline: str
    bar: float | None
    blocks: Sequence[Block]
    note: str = ""

    @property
    def ratios(self) -> list[float]:
        """One for each block. The figure is their median."""
        return [measured / baseline for measured, baseline in self.blocks]


async def compare(size: Size, measured: Sample, baseline: Sample) -> list[Block]:
    """Take samples of both in turn, so that what disturbs the one disturbs the other."""
    await measured()
    await baseline()
    blocks = []
    for _ in range(size.blocks):
        pairs = [(await measured(), await baseline()) for _ in range(size.pairs)]
        blocks.append(Block(*map(median, zip(*pairs, strict=True))))
    return blocks
