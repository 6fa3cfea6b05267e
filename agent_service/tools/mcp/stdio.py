"""A server that is a child process and speaks on its stdin and stdout, a message to a line.

The package has such a transport too. This one bounds what a server can make the service hold in memory, takes
stderr into the log, and says how a server came to its end.
"""

import asyncio
import json
import os
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TypeAlias

import anyio
import structlog
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.client.stdio import get_default_environment
from mcp.shared.message import SessionMessage
from mcp.types import JSONRPCMessage, jsonrpc_message_adapter

from agent_service.tools.mcp.failures import Broken
from agent_service.tools.mcp.listing import readable
from agent_service.tools.mcp.meter import MAX_MESSAGE_BYTES, Meter

# Each of: after its stdin is closed, after SIGTERM, after SIGKILL.
STOP_SECONDS = 2.0

_LOGGED_BYTES = 2000
# A server that logs more has to wait.
_LOGGED_BYTES_A_SECOND = 1024 * 1024
_DRAINED_BYTES = 64 * 1024
_log = structlog.get_logger(__name__)

Received: TypeAlias = SessionMessage | Exception
Streams: TypeAlias = tuple[MemoryObjectReceiveStream[Received], MemoryObjectSendStream[SessionMessage]]


@asynccontextmanager
async def stdio(name: str, command: Sequence[str], env: Mapping[str, str]) -> AsyncIterator[Streams]:
    """Run a command for as long as the context is open. It gets a few harmless variables of the service's
    environment, and those of `env`. Raises OSError if it cannot be started, and Broken at its end."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
        env=get_default_environment() | dict(env),
        limit=MAX_MESSAGE_BYTES,
        start_new_session=True,
    )
    stdin, stdout, stderr = _pipes(process)
    try:
        to_client, incoming = anyio.create_memory_object_stream[Received]()
        outgoing, from_client = anyio.create_memory_object_stream[SessionMessage]()
        async with anyio.create_task_group() as pumps:
            pumps.start_soon(_read, process, stdout, to_client)
            pumps.start_soon(_write, stdin, from_client)
            pumps.start_soon(_log_lines, name, stderr)
            yield incoming, outgoing
            pumps.cancel_scope.cancel()
    finally:
        await _stop(name, process)


def _pipes(process: Process) -> tuple[asyncio.StreamWriter, asyncio.StreamReader, asyncio.StreamReader]:
    stdin, stdout, stderr = process.stdin, process.stdout, process.stderr
    if not (stdin and stdout and stderr):
        raise AssertionError("a process that was started with pipes has them")
    return stdin, stdout, stderr


async def _read(
    process: Process, stdout: asyncio.StreamReader, to_client: MemoryObjectSendStream[Received]
) -> None:
    """Pass messages on, one by one. Whoever waits for one is told of the end before its reason is known."""
    meter = Meter()
    async with to_client:
        while line := await _line(stdout):
            meter.count()
            meter.weigh(line)
            if message := _message(line):
                meter.heed(message)
                try:
                    await to_client.send(readable(SessionMessage(message)))
                except anyio.BrokenResourceError:
                    return  # Nobody listens any more.
    # Whoever was told may have gone away for it. The reason is worth more than that.
    with anyio.CancelScope(shield=True):
        reason = await _end(process)
    raise Broken(reason)


async def _line(stdout: asyncio.StreamReader) -> bytes:
    try:
        return await stdout.readline()
    except ValueError:
        raise Broken(f"sent a message of more than {MAX_MESSAGE_BYTES} bytes") from None


def _message(line: bytes) -> JSONRPCMessage | None:
    """What a line says; None for what is no message, like the words that a library prints."""
    with suppress(ValueError):
        return jsonrpc_message_adapter.validate_json(line, by_name=False)
    # Half a character, as other languages write it: JSON can say it, UTF-8 cannot.
    with suppress(ValueError, RecursionError):
        text = json.dumps(json.loads(line), ensure_ascii=False)
        return jsonrpc_message_adapter.validate_json(text.encode(errors="replace"), by_name=False)
    return None


async def _write(stdin: asyncio.StreamWriter, from_client: MemoryObjectReceiveStream[SessionMessage]) -> None:
    """Pass messages on. At the server's end, which the reader tells, nobody takes them any more."""
    with suppress(ConnectionError):
        async with from_client:
            async for message in from_client:
                line = message.message.model_dump_json(by_alias=True, exclude_unset=True)
                stdin.write(f"{line}\n".encode())
                await stdin.drain()


async def _log_lines(name: str, stderr: asyncio.StreamReader) -> None:
    while piece := await stderr.read(_LOGGED_BYTES):
        _log.debug("tool server says", tool_set=name, text=piece.decode(errors="replace"))
        await asyncio.sleep(len(piece) / _LOGGED_BYTES_A_SECOND)


async def _end(process: Process) -> str:
    await _exit(process)
    match process.returncode:
        case None:
            return "closed its output"
        case code if code < 0:
            return f"was killed by signal {-code}"
        case code:
            return f"exited with code {code}"


async def _stop(name: str, process: Process) -> None:
    """The end of its stdin asks a server to stop. It is made to if it goes on, as is all that it started."""
    stdin, stdout, stderr = _pipes(process)
    stdin.close()
    # One that is stuck with much to say would not notice, and what nobody reads keeps the pipes open.
    drains = [asyncio.create_task(_drain(output)) for output in (stdout, stderr)]
    try:
        await _exit(process)
        _signal_group(process, signal.SIGTERM)
        await _exit(process)
    finally:
        _signal_group(process, signal.SIGKILL)
        # Also when nobody waits for its end any more, which is near.
        with anyio.CancelScope(shield=True):
            await _exit(process)
            _, left_open = await asyncio.wait(drains, timeout=STOP_SECONDS)
        for drain in left_open:
            drain.cancel()
        if left_open:
            _log.error("tool server does not stop", tool_set=name, pid=process.pid)


async def _drain(output: asyncio.StreamReader) -> None:
    while await output.read(_DRAINED_BYTES):
        continue


async def _exit(process: Process) -> None:
    """Wait for the end of a process, though not for long."""
    with suppress(TimeoutError):
        async with asyncio.timeout(STOP_SECONDS):
            await process.wait()


def _signal_group(process: Process, signal_number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal_number)
