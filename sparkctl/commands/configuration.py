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
    """Find out where a model takes interrupts, and say how, and what could not be found out."""

    async def work() -> None:
        async with common.agent() as agent:
            common.print_rows(models.rows(await models.check(agent, name)))

    run(work())
