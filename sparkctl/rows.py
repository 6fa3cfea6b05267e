"""What a watcher is shown, before any colour: rows of a tone, a label and a text."""

from dataclasses import dataclass
from enum import Enum, auto


class Tone(Enum):
    """What a row is. Colours follow from it, and nothing is said by a tone that the words do not say."""

    RULE = auto()
    QUIET = auto()
    INNER_VOICE = auto()
    AGENT = auto()
    REASONING = auto()
    TOOL = auto()
    PENDING = auto()
    DELIVERED = auto()
    SEEN = auto()
    SETTLED = auto()
    PROBLEM = auto()


@dataclass(frozen=True, slots=True)
class Row:
    tone: Tone
    label: str
    text: str
