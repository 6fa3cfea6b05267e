"""A model's chunks as pieces of text for people who watch."""

from collections.abc import Iterator

from agent_service.domain import DeltaKind, Place, Speaker, TextDelta
from agent_service.model import Chunk


class Deltas:
    """Counts how much of each kind was said in one attempt, so that watchers know what they have missed."""

    def __init__(self, place: Place, speaker: Speaker) -> None:
        self._place, self._speaker = place, speaker
        self._said = {DeltaKind.TEXT: 0, DeltaKind.REASONING: 0}

    def of(self, chunk: Chunk) -> Iterator[TextDelta]:
        if chunk.reasoning:
            yield self._piece(DeltaKind.REASONING, chunk.reasoning)
        if chunk.text:
            yield self._piece(DeltaKind.TEXT, chunk.text)
        for call in chunk.tool_calls:
            if call.name:
                yield self._delta(DeltaKind.TOOL_NAME, call.index, call.name)

    def _piece(self, kind: DeltaKind, text: str) -> TextDelta:
        offset = self._said[kind]
        self._said[kind] += len(text)
        return self._delta(kind, offset, text)

    def _delta(self, kind: DeltaKind, offset: int, text: str) -> TextDelta:
        place = self._place
        return TextDelta(place.turn, place.round, place.attempt, self._speaker, kind, offset, text)
