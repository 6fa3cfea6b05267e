"""What the loop needs of a tool."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from agent_service.domain import JsonObject, SessionId
from agent_service.model import ToolSpec


@dataclass(frozen=True, slots=True)
class ToolOutcome:
    """What a tool said. An error is told to the model, which may try again."""

    content: str
    is_error: bool = False


@dataclass(frozen=True, slots=True)
class Traits:
    """What may be done with a tool."""

    # How long it may take; None: as long as the service lets any tool.
    timeout_seconds: float | None = None
    # An interrupt with immediate delivery cancels it.
    cancellable: bool = False
    # Safe to run again after a crash that left its outcome unknown.
    repeatable: bool = False
    # Only sessions that name it have it, of the tools that are built in.
    by_name: bool = False


@dataclass(frozen=True, slots=True)
class ToolContext:
    """For whom a tool runs."""

    session_id: SessionId
    # Tells the call from every other of the session; the same when it is run again after a crash.
    call_key: str
    # Shows those who watch how far the tool has come. The model is not told, and nothing keeps it.
    progress: Callable[[str], None]


class Tool(Protocol):
    @property
    def spec(self) -> ToolSpec: ...

    @property
    def traits(self) -> Traits: ...

    async def call(self, arguments: JsonObject, context: ToolContext) -> ToolOutcome:
        """Run the tool. What is wrong with the arguments is an outcome, not an exception. It is cancelled
        when its time is over, when the service stops, and by an interrupt where the traits allow that."""
        ...
