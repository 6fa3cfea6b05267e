"""The tools of a service, by name, and calls of them that cannot go wrong."""

import asyncio
from collections.abc import Sequence

import structlog

from agent_service.domain import ToolCall, ToolResponse
from agent_service.model import ToolSpec
from agent_service.tools.protocol import Tool, ToolOutcome

_log = structlog.get_logger(__name__)


class Toolbox:
    def __init__(self, tools: Sequence[Tool], max_output_bytes: int) -> None:
        self._tools = {tool.spec.name: tool for tool in tools}
        self._max_output_bytes = max_output_bytes

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._tools)

    def specs(self, names: Sequence[str]) -> tuple[ToolSpec, ...]:
        """The tools of these names, all of them for no name."""
        return tuple(tool.spec for name, tool in self._tools.items() if name in (names or self._tools))

    async def call(self, call: ToolCall, offered: Sequence[ToolSpec]) -> ToolResponse:
        """Run a tool that was offered. Whatever goes wrong is the response."""
        outcome = await self._outcome(call, {spec.name for spec in offered})
        return ToolResponse(call.call_id, call.name, self._cut(outcome.content), outcome.is_error)

    async def _outcome(self, call: ToolCall, offered: set[str]) -> ToolOutcome:
        there_are = offered & self._tools.keys()
        if call.name not in there_are:
            names = ", ".join(sorted(there_are))
            return ToolOutcome(f"There is no tool {call.name!r}. Tools: {names}.", is_error=True)
        try:
            arguments = call.arguments()
        except ValueError as error:
            return ToolOutcome(str(error), is_error=True)
        try:
            return await self._tools[call.name].call(arguments)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            return ToolOutcome(f"The tool {call.name} was cancelled.", is_error=True)
        except Exception:
            _log.exception("tool failed", tool=call.name, call_id=call.call_id)
            return ToolOutcome(f"The tool {call.name} failed.", is_error=True)

    def _cut(self, content: str) -> str:
        """What fits, with a word that says so if it is not all."""
        encoded = content.encode(errors="replace")
        if len(encoded) <= self._max_output_bytes:
            return content
        kept = encoded[: self._max_output_bytes].decode(errors="ignore")
        return f"{kept}\n[cut here: {len(encoded)} bytes, of which {self._max_output_bytes} are kept]"
