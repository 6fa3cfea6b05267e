"""The text that a model is writing. Best effort, and never a ghost: text that came to nothing, or that has
become a row, is not shown, however late its deltas arrive."""

from dataclasses import dataclass, field
from typing import TypeAlias

from spark.agent.v1.event_pb2 import DeltaKind, Speaker, TextDelta

# Turn, round and attempt: later requests compare greater.
Place: TypeAlias = tuple[int, int, int]

# Later than every request.
NEVER: Place = (2**31, 0, 0)


@dataclass(slots=True)
class Piece:
    """The text of one kind so far. What was missed shows as an ellipsis."""

    text: str = ""
    _end: int = 0

    def add(self, offset: int, text: str) -> None:
        if offset > self._end:
            self.text += "…"
        self.text += text[max(0, self._end - offset) :]
        self._end = max(self._end, offset + len(text))


@dataclass(slots=True)
class Draft:
    """What one request to a model has brought so far."""

    speaker: Speaker.ValueType = Speaker.SPEAKER_UNSPECIFIED
    reasoning: Piece = field(default_factory=Piece)
    words: Piece = field(default_factory=Piece)
    tools: dict[int, str] = field(default_factory=dict)

    @property
    def begun(self) -> bool:
        return bool(self.reasoning.text or self.words.text or self.tools)


class Drafts:
    """Holds the draft of the newest request."""

    def __init__(self) -> None:
        self._place: Place = (0, 0, 0)
        self.draft = Draft()

    def void(self, before: Place) -> None:
        """Drop the draft, and from now on every delta of a request before this place."""
        self._place = max(self._place, before)
        self.draft = Draft()

    def add(self, delta: TextDelta) -> None:
        place = (delta.turn, delta.round, delta.attempt)
        if place < self._place:
            return
        if place > self._place:
            self.void(place)
        self.draft.speaker = delta.speaker
        if delta.offset == 0:
            self._begin(delta.kind)
        match delta.kind:
            case DeltaKind.DELTA_KIND_REASONING:
                self.draft.reasoning.add(delta.offset, delta.text)
            case DeltaKind.DELTA_KIND_TEXT:
                self.draft.words.add(delta.offset, delta.text)
            case DeltaKind.DELTA_KIND_TOOL_NAME:
                self.draft.tools[delta.offset] = delta.text
            case _:
                pass

    def _begin(self, kind: DeltaKind.ValueType) -> None:
        """A reply reasons, speaks and calls, in this order: what begins replaces itself and what follows it.

        A request made again after a crash can have the place of the one that was lost.
        """
        self.draft.tools = {}
        if kind != DeltaKind.DELTA_KIND_TOOL_NAME:
            self.draft.words = Piece()
        if kind == DeltaKind.DELTA_KIND_REASONING:
            self.draft.reasoning = Piece()
