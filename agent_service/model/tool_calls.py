"""Tool calls in parts, as servers send them, and which call each part belongs to.

By the API the parts of a call share an index, and the first has the id and the name. Some servers leave the
index out, give all calls the same one, or repeat id and name in every part.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field

from agent_service.domain import RoundFailure
from agent_service.model.protocol import ModelError, ToolCallPiece

MAX_CALLS = 128


@dataclass(frozen=True, slots=True)
class CallPart:
    """A part as it was sent."""

    index: int | None
    call_id: str
    name: str
    arguments: str


@dataclass(slots=True)
class _Call:
    """What has come of a call."""

    index: int | None
    call_id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)

    def may_have(self, index: int | None) -> bool:
        return index is None or self.index is None or index == self.index

    def repeats(self, part: CallPart) -> bool:
        """Whether the part is all of the call once more."""
        return (
            bool(part.call_id and part.arguments)
            and (part.call_id, part.name) == (self.call_id, self.name)
            and self._is_whole()
            and part.arguments == "".join(self.arguments)
        )

    def ends_before(self, part: CallPart) -> bool:
        """Whether the part begins another call. One that does has a name; not all that have one do."""
        if not part.name:
            return False
        if self.call_id and part.call_id and self.call_id != part.call_id:
            return True
        if self.name == part.name:
            return bool(part.arguments.strip()) and self._is_whole()
        # A name comes before arguments, if it comes in parts at all.
        return part.index is None or bool(self.arguments)

    def _is_whole(self) -> bool:
        if not self.arguments or not self.arguments[-1].rstrip().endswith("}"):
            return False
        try:
            return isinstance(json.loads("".join(self.arguments)), dict)
        except ValueError:
            return False


class ToolCalls:
    """Sorts the parts of one reply."""

    def __init__(self) -> None:
        # By the index that they have from here on; the one that a part came for last is the last.
        self._calls: dict[int, _Call] = {}

    def pieces(self, parts: Iterable[CallPart]) -> tuple[ToolCallPiece, ...]:
        """Raises ModelError where there are more than MAX_CALLS calls."""
        return tuple(self._piece(part) for part in parts)

    def _piece(self, part: CallPart) -> ToolCallPiece:
        place = self._place(part)
        call = self._calls[place] = self._calls.pop(place, _Call(part.index))
        if call.repeats(part):
            return ToolCallPiece(place)
        call_id = "" if call.call_id else part.call_id
        name = "" if call.name == part.name else part.name
        call.call_id, call.name = call.call_id or call_id, call.name + name
        if part.arguments:
            call.arguments.append(part.arguments)
        return ToolCallPiece(place, call_id, name, part.arguments)

    def _place(self, part: CallPart) -> int:
        """The index of the call that the part belongs to, or a new one."""
        possible = [place for place, call in self._calls.items() if call.may_have(part.index)]
        of_id = [place for place in possible if part.call_id and self._calls[place].call_id == part.call_id]
        for place in (of_id or possible)[-1:]:
            call = self._calls[place]
            if call.repeats(part) or not call.ends_before(part):
                return place
        if len(self._calls) == MAX_CALLS:
            detail = f"the model called more than {MAX_CALLS} tools in one reply"
            raise ModelError(RoundFailure.BAD_REPLY, detail)
        if part.index is not None and part.index not in self._calls:
            return part.index
        return max(self._calls, default=-1) + 1
