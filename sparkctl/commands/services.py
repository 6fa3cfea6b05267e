"""Commands that run the services."""

from typing import Annotated

import typer
from rich.console import Console

from sparkctl import demo, up
from sparkctl.commands import common
from sparkctl.running import run, until_stopped


def run_services() -> None:
    """Run the agent service and the gateway in this terminal, until Ctrl-C."""

    async def work() -> None:
        await up.up(common.settings(), Console(), Console(stderr=True))

    run(until_stopped(work()))


def run_demo(
    play: Annotated[
        bool, typer.Option("--play", help="Nudge the agent without a person, and check what comes of it.")
    ] = False,
) -> None:
    """Show an agent at work, with the commands that nudge it. Plays by itself without a terminal."""
    console = Console()
    by_itself = play or not console.is_interactive

    async def work() -> None:
        await (demo.play if by_itself else demo.demo)(common.settings(), console)

    done = run(until_stopped(work()))
    if not by_itself:
        typer.echo("The services have stopped. The agent goes on at the next start.")
    elif not done:
        raise typer.Exit(130)
