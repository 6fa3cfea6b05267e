"""The tools of one MCP server: started with the service, and again, after a pause, whenever it dies."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import structlog
from mcp import Client, MCPError, types
from mcp.client import IncomingMessage, Transport
from mcp.client.subscriptions import ListenNotSupportedError, SubscriptionLost
from pydantic import ValidationError

from agent_service.domain import JsonObject
from agent_service.model import ToolSpec
from agent_service.settings import ToolConfig
from agent_service.tools.mcp.calls import outcome, progress_words, sendable
from agent_service.tools.mcp.failures import Broken, reason_of
from agent_service.tools.mcp.http import headers_of, http
from agent_service.tools.mcp.listing import placeholder
from agent_service.tools.mcp.offers import Offers, offers
from agent_service.tools.mcp.stdio import stdio
from agent_service.tools.protocol import ToolContext, ToolOutcome, Traits
from agent_service.tools.tool_set import Offer, SetKind, SetState, Standing

_log = structlog.get_logger(__name__)

# In which a server may list its tools.
_MAX_PAGES = 10
_CLIENT = types.Implementation(name="spark", version="1")


@dataclass(frozen=True, slots=True)
class Timing:
    """In seconds."""

    # A command may have to fetch itself first.
    start: float = 60
    # To list its tools, or to take a subscription.
    answer: float = 10
    # Between two looks at a server that says nothing, and at one that says again and again that it changed.
    poll: float = 30
    rest: float = 2
    first_pause: float = 0.5
    longest_pause: float = 60
    # For which a turn waits for a server that is still on its first start.
    ready: float = 5

    def pause(self, failures: int) -> float:
        """How long to leave a server alone that has failed so often in a row: longer each time, and never
        all servers for the same time."""
        longest = min(self.first_pause * 2.0 ** min(failures - 1, 20), self.longest_pause)
        return longest * random.uniform(0.5, 1)  # noqa: S311


PATIENT = Timing()


@dataclass(frozen=True, slots=True)
class McpTool:
    spec: ToolSpec
    traits: Traits
    own_name: str
    call_server: Callable[[str, JsonObject, ToolContext], Awaitable[ToolOutcome]]

    async def call(self, arguments: JsonObject, context: ToolContext) -> ToolOutcome:
        return await self.call_server(self.own_name, arguments, context)


class McpToolSet:
    """Whatever its server does costs a call of one of its tools one error, and nobody anything else."""

    def __init__(self, name: str, config: ToolConfig, timing: Timing = PATIENT) -> None:
        """Raises SettingsError."""
        self._name, self._config, self._timing = name, config, timing
        self._headers = headers_of(config.headers_env)
        self._listed: list[types.Tool] = []
        self._offers = Offers()
        self._tools: tuple[McpTool, ...] = ()
        self._standing = Standing(name, SetKind.MCP, SetState.STARTING, datetime.now(UTC))
        # While the server is up.
        self._client: Client | None = None
        self._tried, self._changed = asyncio.Event(), asyncio.Event()
        self._calls = 0
        self._stopping = False

    @property
    def name(self) -> str:
        return self._name

    @property
    def tools(self) -> tuple[McpTool, ...]:
        return self._tools

    @property
    def standing(self) -> Standing:
        return self._standing

    async def ready(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._timing.ready):
                await self._tried.wait()

    def stop(self) -> None:
        """Start the server no more. Whoever runs this cancels `run` then."""
        self._stopping = True

    async def run(self) -> None:
        """Keep the server running until `stop`."""
        failures = 0
        while True:
            started = time.monotonic()
            try:
                await self._live()
            except Exception as error:
                reason = reason_of(error, secrets=self._headers.values())
                _log.warning("tool server down", tool_set=self._name, reason=reason.text, error=reason.kind)
                self._stand(SetState.DOWN, reason.text)
            # A cancellation that meets the server's own end has been taken for that.
            if self._stopping:
                return
            failures = 1 if time.monotonic() - started > self._timing.longest_pause else failures + 1
            await asyncio.sleep(self._timing.pause(failures))

    async def call(self, own_name: str, arguments: JsonObject, context: ToolContext) -> ToolOutcome:
        """Call a tool by its server's own name for it."""

        async def progressed(progress: float, total: float | None, message: str | None) -> None:
            context.progress(progress_words(progress, total, message))

        try:
            sent = sendable(own_name, arguments)
        except ValueError as error:
            return ToolOutcome(f"The tool server {self._name} cannot be called: {error}.", is_error=True)
        await self.ready()
        if self._client is None:
            return ToolOutcome(f"The tool server {self._name} is not running.", is_error=True)
        self._calls += 1
        try:
            meta = _meta(context) if self._config.share_session_id else None
            result = await self._client.call_tool(own_name, sent, progress_callback=progressed, meta=meta)
            return outcome(result)
        except MCPError as error:
            return ToolOutcome(self._refusal(error), is_error=True)
        except Exception as error:
            _log.warning("not a result", tool_set=self._name, tool=own_name, error=type(error).__name__)
            return ToolOutcome(f"The tool server {self._name} gave no valid answer.", is_error=True)
        finally:
            self._calls -= 1

    def _refusal(self, error: MCPError) -> str:
        match error.code:
            case types.CONNECTION_CLOSED:
                return (
                    f"The tool server {self._name} was lost while the tool ran. "
                    "Whether the tool has done anything is not known."
                )
            case types.PARSE_ERROR:
                return f"The tool server {self._name} gave no valid answer."
            case _:
                return f"The tool server {self._name} refused the call: {error.message}"

    # ---- from the start of the server to its end

    async def _live(self) -> None:
        """Start the server and keep to it. Its end is an exception."""
        async with AsyncExitStack() as stack:
            client = await self._start(stack)
            await self._subscribe(client, stack)
            await self._look(client)
            self._client = client
            try:
                await self._keep_looking(client)
            finally:
                self._client = None

    async def _start(self, stack: AsyncExitStack) -> Client:
        client = Client(self._transport(), message_handler=self._hear, client_info=_CLIENT, cache=None)
        try:
            async with asyncio.timeout(self._timing.start):
                return await stack.enter_async_context(client)
        except TimeoutError:
            raise Broken(f"did not start within {self._timing.start:g} s") from None

    def _transport(self) -> Transport:
        if self._config.url:
            return http(self._config.url, self._headers)
        return stdio(self._name, self._config.command, self._config.env)

    async def _subscribe(self, client: Client, stack: AsyncExitStack) -> None:
        """Ask to hear of changed tools where a server wants to be asked. A poll stands behind it."""
        tools = client.server_capabilities.tools
        if tools and tools.list_changed:
            with suppress(ListenNotSupportedError, SubscriptionLost, MCPError, TimeoutError):
                async with asyncio.timeout(self._timing.answer):
                    await stack.enter_async_context(client.listen(tools_list_changed=True))

    async def _hear(self, message: IncomingMessage) -> None:
        if isinstance(message, types.ToolListChangedNotification):
            self._changed.set()

    async def _keep_looking(self, client: Client) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._timing.poll):
                    await self._changed.wait()
            self._changed.clear()
            await self._look(client)
            await asyncio.sleep(self._timing.rest)

    async def _look(self, client: Client) -> None:
        """See what the server offers now. One that does not answer hangs, unless it is busy with a call."""
        try:
            async with asyncio.timeout(self._timing.answer):
                listed = await _listed(client)
        except TimeoutError:
            if not self._calls:
                raise Broken(f"did not answer within {self._timing.answer:g} s") from None
        except ValidationError:
            raise Broken("answers with no list of tools") from None
        else:
            if listed != self._listed:
                self._offers = await asyncio.to_thread(offers, self._name, listed)
                self._listed = listed
            self._offer(self._offers)

    def _offer(self, found: Offers) -> None:
        self._tools = tuple(
            McpTool(
                tool.spec,
                Traits(self._config.timeout_seconds, self._config.cancellable, tool.repeatable),
                tool.own_name,
                self.call,
            )
            for tool in found.offered
        )
        shown = tuple(Offer(tool.spec.name, tool.spec.description) for tool in found.offered)
        before = self._standing
        self._stand(SetState.UP, offers=shown + found.left_out)
        if self._standing != before:
            left_out = [offer.name for offer in found.left_out]
            _log.info("tool server up", tool_set=self._name, tools=len(shown), left_out=left_out)

    def _stand(self, state: SetState, detail: str = "", offers: tuple[Offer, ...] | None = None) -> None:
        """Take note of how the server stands. One that is down offers what it offered last."""
        before = self._standing
        self._standing = replace(
            before,
            state=state,
            since=before.since if state is before.state else datetime.now(UTC),
            detail=detail,
            offers=before.offers if offers is None else offers,
        )
        self._tried.set()


def _meta(context: ToolContext) -> types.RequestParamsMeta | None:
    """For whom a call is, so that a server that works on after its answer knows whom to tell."""
    return types.RequestParams.model_validate({"_meta": {"spark/session_id": str(context.session_id)}}).meta


async def _listed(client: Client) -> list[types.Tool]:
    """What the server lists, up to a measure. What is beyond it has a stand-in."""
    tools: list[types.Tool] = []
    cursor = None
    for _ in range(_MAX_PAGES):
        page = await client.list_tools(cursor=cursor)
        tools += page.tools
        cursor = page.next_cursor
        if cursor is None:
            return tools
    stand_in = placeholder("…", f"stands for what comes after {_MAX_PAGES} pages")
    return [types.Tool.model_validate(stand_in), *tools]


@asynccontextmanager
async def supervised(sets: Sequence[McpToolSet]) -> AsyncIterator[None]:
    """The servers of the sets run while the context is open."""
    async with asyncio.TaskGroup() as tasks:
        running = [(one, tasks.create_task(one.run())) for one in sets]
        try:
            yield
        finally:
            for one, task in running:
                one.stop()
                task.cancel()
