"""Work of a command: run to its end, or ended early by a signal or by other work."""

import asyncio
import signal
from collections.abc import Coroutine
from typing import TypeVar

import typer

from sparkctl.failures import CommandFailed

T = TypeVar("T")

# The last comes when the terminal is closed, unless nohup was told otherwise.
_SIGNALS = tuple(
    number
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    if signal.getsignal(number) is not signal.SIG_IGN
)


def run(work: Coroutine[None, None, T]) -> T:
    """Do the work. Whatever goes wrong is one line on stderr and an exit code."""
    try:
        return asyncio.run(work)
    except CommandFailed as failure:
        typer.echo(f"sparkctl: {failure}", err=True)
        raise typer.Exit(failure.exit_code) from None
    except Exception as error:
        typer.echo(f"sparkctl: unexpected {type(error).__name__}: {error}", err=True)
        raise typer.Exit(1) from None


async def until_stopped(work: Coroutine[None, None, None]) -> bool:
    """Do the work; true if it was done. A signal to stop cancels it, a second one cancels its clean-up."""
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        loop.add_signal_handler(number, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        return False
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
    return True


async def first_of(*works: Coroutine[None, None, T]) -> T:
    """What the first one to end returns or raises. The others are cancelled and waited for."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return done.pop().result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
