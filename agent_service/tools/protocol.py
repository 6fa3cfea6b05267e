"""What the loop needs of a tool."""

from dataclasses import dataclass
from typing import Protocol

from agent_service.domain import JsonObject
from agent_service.model import ToolSpec


@dataclass(frozen=True, slots=True)
class ToolOutcome:
    """What a tool said. An error is told to the model, which may try again."""

    content: str
    is_error: bool = False


class Tool(Protocol):
    @property
    def spec(self) -> ToolSpec: ...

    async def call(self, arguments: JsonObject) -> ToolOutcome:
        """Run the tool. What is wrong with the arguments is an outcome, not an exception."""
        ...
