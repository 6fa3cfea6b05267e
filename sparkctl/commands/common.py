"""What commands share: whom they talk to, and how they print."""

import os
import sys
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Annotated, TypeAlias

import typer
from rich.console import Console
from rich.table import Table

from sparkctl import connections, look
from sparkctl.connections import AgentService, Gateway, addresses
from sparkctl.environment import environment
from sparkctl.rows import Row

_UNLIMITED_WIDTH = 1000

Reference: TypeAlias = Annotated[
    str, typer.Argument(metavar="SESSION", help="An id, the beginning of one, or a display name.")
]


def settings() -> dict[str, str]:
    """The environment, with what `.env` adds to it."""
    return environment(os.environ, Path(".env"))


def agent() -> AbstractAsyncContextManager[AgentService]:
    return connections.agent_service(addresses(settings()).agent)


def gateway() -> AbstractAsyncContextManager[Gateway]:
    return connections.gateway(addresses(settings()).gateway)


def print_rows(rows: Iterable[Row]) -> None:
    console = Console()
    for row in rows:
        console.out(look.line(row), highlight=False)


def print_table(table: Table) -> None:
    # A file or a pipe has no width: nothing is folded for it.
    console = Console() if sys.stdout.isatty() else Console(width=_UNLIMITED_WIDTH)
    console.print(table)
