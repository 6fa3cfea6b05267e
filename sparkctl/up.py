"""Runs both services in one terminal."""

from collections.abc import Mapping

from rich.console import Console
from rich.text import Text

from sparkctl import hints
from sparkctl.connections import Addresses
from sparkctl.services import services
from sparkctl.words import visible


async def up(environment: Mapping[str, str], console: Console, logs: Console) -> None:
    """Run until it is cancelled. Raises CommandFailed when a service ends by itself."""

    def log(name: str, line: str) -> None:
        logs.print(Text.assemble((f"{name:<13} │ ", "dim"), visible(line)), soft_wrap=True)

    async with services(environment, log) as running:
        for line in _welcome(running.addresses, environment):
            console.out(line, highlight=False)
        try:
            await running.until_one_dies()
        finally:
            console.out("Stopping …", highlight=False)


def _welcome(addresses: Addresses, environment: Mapping[str, str]) -> list[str]:
    sparkctl = hints.sparkctl()
    commands = [
        *hints.exports(addresses, environment),
        f"{sparkctl} create 'Keep the log of the lighthouse' --model demo --name lighthouse --watch",
        hints.post("lighthouse", "A trawler is off the north rocks"),
        hints.grpcurl("SESSION_ID", "A trawler is off the north rocks", addresses.gateway),
    ]
    return [
        f"agent service  {addresses.agent}",
        f"gateway        {addresses.gateway}",
        "",
        "In another terminal:",
        *(f"  {command}" for command in commands),
        "",
        "Ctrl-C stops both.",
    ]
