"""A tool that runs for as long as a test wants."""

import asyncio
from uuid import uuid4

from agent_service.domain import JsonObject, SessionId
from agent_service.model import ToolSpec
from agent_service.tools import ToolContext, ToolOutcome, Traits

UNDECLARED = Traits()
# For tools that need none.
CONTEXT = ToolContext(SessionId(uuid4()), "1.1.call", lambda progress: None)


class Held:
    """Answers its one call when the test lets it go. A stubborn one does not stop before that either."""

    def __init__(self, name: str, traits: Traits = UNDECLARED, stubborn: bool = False) -> None:
        self.spec, self.traits, self._stubborn = ToolSpec(name, "", {"type": "object"}), traits, stubborn
        self.started, self.let_go = asyncio.Event(), asyncio.Event()
        self.cancelled, self.stopped = asyncio.Event(), asyncio.Event()

    @property
    def runs(self) -> bool:
        return self.started.is_set() and not self.stopped.is_set()

    async def call(self, arguments: JsonObject, context: ToolContext) -> ToolOutcome:
        self.started.set()
        try:
            await self.let_go.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            if self._stubborn:
                await self.let_go.wait()
            raise
        finally:
            self.stopped.set()
        return ToolOutcome(f"{self.spec.name} is done")
