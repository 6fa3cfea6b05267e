"""How much of a context window what may take. Pure: sizes in tokens are estimates, made from bytes."""

from collections.abc import Sequence
from dataclasses import dataclass

from agent_service.domain import Interrupt, Portion
from agent_service.loop.frame import frame

# Of English text a token has about four bytes, of Chinese three, of figures and code fewer.
BYTES_PER_TOKEN = 3
# Where nobody knows the window: interrupts of the greatest length are still shown whole.
UNKNOWN_TOKENS = 65_536
# A context so full is compacted. The rest is for what is delivered and for the reply.
NEARLY_FULL = 0.7
# How many of the handled interrupts a summary lists at most, and what one of them takes.
MAX_LISTED, LISTED_BYTES = 50, 64
# The least that one tool may answer, however small the window and however many answer at once.
MIN_TOOL_BYTES = 1024


def tokens(text: str) -> int:
    return len(text.encode(errors="replace")) // BYTES_PER_TOKEN + 1


@dataclass(frozen=True, slots=True)
class Window:
    """The context window of a session; None where nobody knows it."""

    tokens: int | None

    def nearly_full(self, used: int) -> bool:
        return self.tokens is not None and used > self.tokens * NEARLY_FULL

    def portion(self, due: Sequence[Interrupt], unanswered: Sequence[Interrupt], tag: str) -> Portion:
        """As many of those that are due as fit, with those not yet answered, a quarter of the window. One at
        least where all are answered; if it is too long by itself, it is cut."""
        room = self._quarter - sum(tokens(frame(interrupt, tag)) for interrupt in unanswered)
        for n, interrupt in enumerate(due):
            room -= tokens(frame(interrupt, tag))
            if room < 0:
                if n == 0 and not unanswered:
                    return Portion(1, shown_bytes=self._quarter * BYTES_PER_TOKEN)
                return Portion(n)
        return Portion(len(due))

    def tool_bytes(self, calls: int) -> int:
        """How long the answer of each of so many tools may be, that all fit a quarter of the window."""
        return max(MIN_TOOL_BYTES, self._quarter * BYTES_PER_TOKEN // max(calls, 1))

    @property
    def summary_bytes(self) -> int:
        """How long a summary may be: an eighth of the window, and never longer than a page or eight."""
        return min(self._quarter * BYTES_PER_TOKEN // 2, 16 * 1024)

    @property
    def listed(self) -> int:
        """How many of the handled interrupts a summary lists: together no longer than its words may be."""
        return min(self.summary_bytes // LISTED_BYTES, MAX_LISTED)

    @property
    def notes_bytes(self) -> int:
        """How long all notes in the system prompt may be together."""
        return self.summary_bytes // 2

    @property
    def _quarter(self) -> int:
        return max((self.tokens or UNKNOWN_TOKENS) // 4, 1)


UNKNOWN = Window(None)
