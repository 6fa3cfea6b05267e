"""How much of a context window what may take. Pure: sizes in tokens are estimates, made from bytes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from agent_service.domain import Interrupt, Portion
from agent_service.loop.frame import frame

# Of English text a token has about four bytes, of Chinese three, of figures and code fewer. Taken for granted
# until a server has counted; longer ones are not relied upon.
BYTES_PER_TOKEN = 3
# Below this nothing is believed: a server has been told of a window that is hundreds of times too long.
_LEAST_BYTES_PER_TOKEN = 0.01
# Where nobody knows the window: interrupts of the greatest length are still shown whole.
UNKNOWN_TOKENS = 65_536
# A context so full is compacted. The rest is for what is delivered and for the reply.
NEARLY_FULL = 0.7
# How many of the handled interrupts a summary lists at most, and what one of them takes.
MAX_LISTED, LISTED_BYTES = 50, 64
# The least that one tool may answer, or that is shown of an interrupt which has to be cut once more, however
# small the window and however many of them there are.
MIN_SHOWN_BYTES = 256


def size(text: str) -> int:
    """In bytes."""
    return len(text.encode(errors="replace"))


@dataclass(frozen=True, slots=True)
class Window:
    """The context window of a session; None where nobody knows it. With how many bytes make a token of what
    the session is about."""

    tokens: int | None
    bytes_per_token: float = BYTES_PER_TOKEN

    def counted(self, size_bytes: int, tokens: int) -> "Window":
        """After a request of so many bytes in which the server has counted so many tokens."""
        found = min(max(round(size_bytes / tokens, 1), 1), BYTES_PER_TOKEN)
        return replace(self, bytes_per_token=found)

    def refused(self, size_bytes: int) -> "Window":
        """After a request of so many bytes that was too long. By how much nobody knows, and the window may be
        another one than was told: it holds no more than that."""
        found = min(self.bytes_per_token / 2, size_bytes / self._tokens)
        return replace(self, bytes_per_token=max(found, _LEAST_BYTES_PER_TOKEN))

    def count(self, size_bytes: int) -> int:
        """About how many tokens so many bytes are."""
        return int(size_bytes / self.bytes_per_token) + 1

    def nearly_full(self, used: int) -> bool:
        return self.tokens is not None and used > self.tokens * NEARLY_FULL

    def portion(self, due: Sequence[Interrupt], unanswered: Sequence[Interrupt], tag: str) -> Portion:
        """As many of those that are due as fit, with those not yet answered, a quarter of the window. One at
        least where all are answered; if it is too long by itself, it is cut."""
        room = self._quarter - sum(_sizes(unanswered, tag))
        for n, taken in enumerate(_sizes(due, tag)):
            room -= taken
            if room < 0:
                if n == 0 and not unanswered:
                    return Portion(1, shown_bytes=self._quarter)
                return Portion(n)
        return Portion(len(due))

    def shortened(self, delivered: Sequence[Interrupt], tag: str) -> list[Interrupt]:
        """Those of the interrupts that take more than their share of the quarter, cut to it. What is shorter
        leaves the rest of its share to the others."""
        room, share = self._quarter, self._quarter
        for n, taken in enumerate(sorted(_sizes(delivered, tag))):
            share = room // (len(delivered) - n)
            if taken > share:
                break
            room -= taken
        else:
            return []
        shown_bytes = max(share, MIN_SHOWN_BYTES)
        cut = [(one, replace(one, shown_bytes=shown_bytes)) for one in delivered]
        return [less for one, less in cut if size(frame(less, tag)) < size(frame(one, tag))]

    def tool_bytes(self, calls: int) -> int:
        """How long the answer of each of so many tools may be, that all fit a quarter of the window."""
        return max(MIN_SHOWN_BYTES, self._quarter // max(calls, 1))

    @property
    def summary_bytes(self) -> int:
        """How long a summary may be: an eighth of the window, and never longer than a page or eight."""
        return min(self._quarter // 2, 16 * 1024)

    @property
    def listed(self) -> int:
        """How many of the handled interrupts a summary lists: together no longer than its words may be."""
        return min(self.summary_bytes // LISTED_BYTES, MAX_LISTED)

    @property
    def notes_bytes(self) -> int:
        """How long all notes in the system prompt may be together."""
        return self.summary_bytes // 2

    @property
    def bytes(self) -> int:
        return int(self._tokens * self.bytes_per_token)

    @property
    def _tokens(self) -> int:
        return self.tokens or UNKNOWN_TOKENS

    @property
    def _quarter(self) -> int:
        return max(self.bytes // 4, 1)


UNKNOWN = Window(None)


def _sizes(interrupts: Sequence[Interrupt], tag: str) -> list[int]:
    return [size(frame(interrupt, tag)) for interrupt in interrupts]
