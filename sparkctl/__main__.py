"""sparkctl: the commands and their options. What a command does is in the module of its noun."""

import asyncio
import os
import sys
from collections.abc import Coroutine
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Annotated, TypeVar

import typer
from rich.console import Console

from spark.agent.v1.agent_service_pb2 import ListSessionsRequest
from sparkctl import demo, post, requests, sessions, up, watch
from sparkctl.connections import AgentService, addresses, agent_service, gateway
from sparkctl.failures import CommandFailed
from sparkctl.follow import follow
from sparkctl.requests import When
from sparkctl.running import until_stopped

T = TypeVar("T")

app = typer.Typer(
    help="Runs autonomous agents, shows them at work, and puts interrupts into that work.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Reference = Annotated[
    str, typer.Argument(metavar="SESSION", help="An id, the beginning of one, or a display name.")
]


def main() -> None:
    if any("\ud800" <= character <= "\udfff" for argument in sys.argv for character in argument):
        sys.exit("sparkctl: the arguments are not valid text")
    app(prog_name="sparkctl")


@app.command("up")
def _up() -> None:
    """Run the agent service and the gateway in this terminal, until Ctrl-C."""
    _run(until_stopped(up.up(os.environ, Console(), Console(stderr=True))))


@app.command("demo")
def _demo(
    play: Annotated[
        bool, typer.Option("--play", help="Nudge the agent without a person, and check what comes of it.")
    ] = False,
) -> None:
    """Show an agent at work, with the commands that nudge it. Plays by itself without a terminal."""
    console = Console()
    if console.is_interactive and not play:
        _run(until_stopped(demo.demo(os.environ, console)))
        typer.echo("The services have stopped. The agent goes on at the next start.")
    elif not _run(until_stopped(demo.play(os.environ, console))):
        raise typer.Exit(130)


@app.command("create")
def _create(
    goal: Annotated[str, typer.Argument(metavar="GOAL", help="What the agent works towards.")],
    name: Annotated[str, typer.Option(help="A display name.")] = "",
    model: Annotated[str, typer.Option(help="A model of the service's configuration.")] = "",
    on_interrupt: Annotated[
        bool, typer.Option("--on-interrupt", help="Start turns for interrupts only.")
    ] = False,
    cooldown: Annotated[float, typer.Option(metavar="SECONDS", help="Pause between two turns.")] = 0,
    label: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="May be repeated.")] = None,
    watch_it: Annotated[bool, typer.Option("--watch", help="Watch the session at once.")] = False,
) -> None:
    """Create a session, which starts to work at once, and print its id."""

    async def work() -> None:
        wanted = requests.session(goal, name, model, on_interrupt, cooldown, label or ())
        async with agent_service(addresses(os.environ).agent) as agent:
            session_id = (await sessions.create(agent, wanted)).session_id
            typer.echo(session_id)
            if watch_it:
                await until_stopped(_watch_session(agent, session_id))

    _run(work())


@app.command("sessions")
def _sessions() -> None:
    """List the sessions, newest first."""

    async def work() -> None:
        async with agent_service(addresses(os.environ).agent) as agent:
            listed = [session async for session in sessions.listed(agent, ListSessionsRequest())]
        console = Console()
        # A pipe has no width: nothing is to be cut off for it.
        console.print(
            sessions.table(listed, datetime.now(UTC)), width=None if console.is_interactive else 1000
        )

    _run(work())


@app.command("end")
def _end(reference: Reference) -> None:
    """End a session for good."""

    async def work() -> None:
        async with agent_service(addresses(os.environ).agent) as agent:
            ended = await sessions.end(agent, await sessions.find(agent, reference))
            typer.echo(f"{ended.session_id} ended")

    _run(work())


@app.command("watch")
def _watch(
    reference: Reference,
    after_revision: Annotated[int, typer.Option(min=0, help="Start after this revision.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print an event per line, as JSON.")] = False,
    deltas: Annotated[bool, typer.Option("--deltas", help="With --json: text as it streams, too.")] = False,
) -> None:
    """Show a session at work. Ctrl-C ends the watching, never the agent."""

    async def work() -> None:
        async with agent_service(addresses(os.environ).agent) as agent:
            session_id = await sessions.find(agent, reference)
            await until_stopped(_watch_session(agent, session_id, after_revision, as_json, deltas))

    _run(work())


@app.command("post")
def _post(
    reference: Reference,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="The words.")],
    source: Annotated[str, typer.Option(help="Who speaks: KIND or KIND:NAME.")] = "operator",
    notify: Annotated[
        str, typer.Option(metavar="TYPE", help="Post a notification of this type, not a nudge.")
    ] = "",
    subject: Annotated[str, typer.Option(help="With --notify: what it is about.")] = "",
    data: Annotated[str, typer.Option(metavar="JSON", help="With --notify: the figures, an object.")] = "",
    delivery: Annotated[When, typer.Option(help="The safe point at which it is due.")] = When.NEXT_ROUND,
    coalesce_key: Annotated[
        str, typer.Option(metavar="KEY", help="Replaces what is pending under this key.")
    ] = "",
    expires: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Worth nothing if not delivered by then.")
    ] = None,
    request_id: Annotated[
        str, typer.Option(metavar="ID", help="The same id posts once, however often it is used.")
    ] = "",
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the model has seen it.")] = False,
    timeout: Annotated[float | None, typer.Option(metavar="SECONDS", help="With --wait: how long.")] = None,
) -> None:
    """Post an interrupt and print its id. With --wait the exit code is 0 only if the model has seen it."""

    async def work() -> None:
        interrupt = requests.interrupt(text, source, notify, subject, data, delivery, coalesce_key, expires)
        where = addresses(os.environ)
        async with agent_service(where.agent) as agent:
            interrupt.session_id = await sessions.find(agent, reference)
        async with gateway(where.gateway) as door:
            posted = (await post.post(door, interrupt, request_id)).interrupt
            typer.echo(f"{posted.interrupt_id} {post.facts(posted)[-1]}")
            if wait:
                await post.wait_until_seen(door, posted, timeout, typer.echo)

    _run(work())


async def _watch_session(
    agent: AgentService,
    session_id: str,
    after_revision: int = 0,
    as_json: bool = False,
    deltas: bool = False,
) -> None:
    console = Console()
    include_deltas = deltas if as_json else console.is_interactive
    async with aclosing(follow(agent, session_id, after_revision, include_deltas)) as news:
        if as_json:
            await watch.show_json(news, console, Console(stderr=True))
        else:
            await watch.show(news, console, hint="Ctrl-C ends the watching, not the agent")


def _run(work: Coroutine[None, None, T]) -> T:
    """Do the work. Whatever goes wrong is one line on stderr and an exit code."""
    try:
        return asyncio.run(work)
    except CommandFailed as failure:
        typer.echo(f"sparkctl: {failure}", err=True)
        raise typer.Exit(failure.exit_code) from None
    except Exception as error:
        typer.echo(f"sparkctl: unexpected {type(error).__name__}: {error}", err=True)
        raise typer.Exit(1) from None


if __name__ == "__main__":
    main()
