"""Commands on what the configuration names: tools and models."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from sparkctl import models, toolsets
from sparkctl.commands import common
from sparkctl.running import run


def list_tools() -> None:
    """List the tools that sessions may use, and how their servers stand."""

    async def work() -> None:
        async with common.agent() as agent:
            listed = await toolsets.listed(agent)
        common.print_table(toolsets.table(listed, datetime.now(UTC)))

    run(work())


def check_model(
    name: Annotated[str, typer.Argument(metavar="NAME", help="As sessions name it; else the usual.")] = "",
) -> None:
    """Find out where a model takes interrupts; say how, what could not be found out, and what to do. Exits 1
    where nothing could be found out."""

    async def work() -> bool:
        async with common.agent() as agent:
            check = await models.check(agent, name)
        common.print_rows(models.rows(check))
        return not check.failure

    if not run(work()):
        raise typer.Exit(1)
