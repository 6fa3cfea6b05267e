"""The tools of a service, by name, and calls of them that cannot go wrong."""

import asyncio
from collections.abc import Collection, Sequence

import structlog

from agent_service.domain import JsonObject, ToolCall, ToolResponse, cut
from agent_service.model import ToolSpec
from agent_service.tools.protocol import Tool, ToolContext, ToolOutcome, Traits
from agent_service.tools.tool_set import Offer, SetKind, SetState, Standing, ToolSet
from agent_service.tools.wait import Wait

_log = structlog.get_logger(__name__)

GRACE_SECONDS = 5.0
# All tools that are built in, as one for people to look at. Sessions name them one by one.
BUILT_IN = "built-in"


class Toolbox:
    """Runs tools within limits of time and of output. A tool that is cancelled has the grace to tidy up;
    one that goes on after it is left behind, or it could hold up an agent for ever."""

    def __init__(
        self,
        tools: Sequence[Tool],
        max_output_bytes: int,
        timeout_seconds: float,
        grace_seconds: float = GRACE_SECONDS,
        sets: Sequence[ToolSet] = (),
    ) -> None:
        self._tools, self._sets = {tool.spec.name: tool for tool in tools}, tuple(sets)
        self._max_output_bytes = max_output_bytes
        self._timeout_seconds, self._grace_seconds = timeout_seconds, grace_seconds

    @property
    def names(self) -> tuple[str, ...]:
        """What sessions may name, whether it is up or not: tools that are built in, and sets."""
        return (*self._tools, *(one.name for one in self._sets))

    @property
    def standings(self) -> tuple[Standing, ...]:
        offers = tuple(Offer(tool.spec.name, tool.spec.description) for tool in self._tools.values())
        built_in = Standing(BUILT_IN, SetKind.BUILT_IN, SetState.UP, offers=offers)
        return (built_in, *(one.standing for one in self._sets))

    async def ready(self, names: Collection[str]) -> None:
        """Wait, though not for long, for the sets of these names that are on their first start."""
        await asyncio.gather(*(one.ready() for one in self._sets if one.name in names))

    def specs(self, names: Collection[str]) -> tuple[ToolSpec, ...]:
        """The tools of these names, and all that the sets of these names offer at present. Without a name:
        those that are built in, but the ones that have to be named."""
        usual = {name for name, tool in self._tools.items() if not tool.traits.by_name}
        built_in = (tool for name, tool in self._tools.items() if name in (names or usual))
        of_sets = (tool for one in self._sets if one.name in names for tool in one.tools)
        return tuple(tool.spec for tool in (*built_in, *of_sets))

    def cancellable(self, name: str) -> bool:
        """Whether an interrupt with immediate delivery may cancel the tool."""
        return self._traits(name).cancellable

    def repeatable(self, name: str) -> bool:
        """Whether the tool may run again after a crash that left its outcome unknown."""
        return self._traits(name).repeatable

    def wait_seconds(self, call: ToolCall, offered: Sequence[ToolSpec]) -> float | None:
        """How long a valid call of the tool `wait` asks to wait; None for every other call."""
        tool = self._offered(call.name, offered)
        if not isinstance(tool, Wait):
            return None
        try:
            return tool.seconds(call.arguments())
        except ValueError:
            return None

    async def call(
        self,
        call: ToolCall,
        offered: Sequence[ToolSpec],
        context: ToolContext,
        max_bytes: int | None = None,
    ) -> ToolResponse:
        """Run a tool that was offered. Whatever goes wrong is the response, which is cut at `max_bytes` if
        that is less than the service keeps of any."""
        outcome = await self._checked(call, offered, context)
        kept_bytes = self._max_output_bytes if max_bytes is None else min(max_bytes, self._max_output_bytes)
        return ToolResponse(call.call_id, call.name, cut(outcome.content, kept_bytes), outcome.is_error)

    async def _checked(
        self, call: ToolCall, offered: Sequence[ToolSpec], context: ToolContext
    ) -> ToolOutcome:
        tool = self._offered(call.name, offered)
        if tool is None:
            names = ", ".join(sorted(spec.name for spec in offered if self._tool(spec.name)))
            return ToolOutcome(f"There is no tool {call.name!r}. Tools: {names}.", is_error=True)
        try:
            arguments = call.arguments()
        except ValueError as error:
            return ToolOutcome(str(error), is_error=True)
        return await self._limited(tool, call, arguments, context)

    async def _limited(
        self, tool: Tool, call: ToolCall, arguments: JsonObject, context: ToolContext
    ) -> ToolOutcome:
        own_seconds = tool.traits.timeout_seconds
        seconds = self._timeout_seconds if own_seconds is None else own_seconds
        running = asyncio.create_task(_outcome(tool, call, arguments, context))
        try:
            in_time, _ = await asyncio.wait({running}, timeout=seconds)
        finally:
            await self._stop(running, call)
        if not in_time:
            limit = " (SPARK_TOOL_TIMEOUT_SECONDS)" if own_seconds is None else ""
            late = f"The tool {call.name} did not finish within {seconds:g} s{limit}."
            return ToolOutcome(late, is_error=True)
        if running.cancelled():
            return ToolOutcome(f"The tool {call.name} was cancelled.", is_error=True)
        return running.result()

    async def _stop(self, running: asyncio.Task[ToolOutcome], call: ToolCall) -> None:
        """Cancel a tool if it still runs, and wait until it has stopped, though not for ever."""
        if running.cancel():
            _, left_behind = await asyncio.wait({running}, timeout=self._grace_seconds)
            if left_behind:
                _log.warning("tool does not stop", tool=call.name, call_id=call.call_id)

    def _offered(self, name: str, offered: Sequence[ToolSpec]) -> Tool | None:
        return self._tool(name) if any(spec.name == name for spec in offered) else None

    def _traits(self, name: str) -> Traits:
        tool = self._tool(name)
        return tool.traits if tool else Traits()

    def _tool(self, name: str) -> Tool | None:
        of_sets = (tool for one in self._sets for tool in one.tools if tool.spec.name == name)
        return self._tools.get(name) or next(of_sets, None)


async def _outcome(tool: Tool, call: ToolCall, arguments: JsonObject, context: ToolContext) -> ToolOutcome:
    try:
        return await tool.call(arguments, context)
    except Exception:
        _log.exception("tool failed", tool=call.name, call_id=call.call_id)
        return ToolOutcome(f"The tool {call.name} failed.", is_error=True)
