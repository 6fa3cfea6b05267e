"""sparkctl: the commands and their options. What a command does is in the module of its noun."""

import os
import sys
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from spark.agent.v1.agent_service_pb2 import ListSessionsRequest
from spark.agent.v1.session_pb2 import Session
from sparkctl import (
    changes,
    demo,
    interrupts,
    look,
    messages,
    models,
    options,
    post,
    requests,
    sessions,
    show,
    toolsets,
    up,
    watch,
)
from sparkctl.connections import AgentService, Gateway, addresses, agent_service, gateway
from sparkctl.environment import environment
from sparkctl.follow import follow
from sparkctl.requests import When
from sparkctl.rows import Row
from sparkctl.running import run, until_stopped
from sparkctl.words import facts

_UNLIMITED_WIDTH = 1000

app = typer.Typer(
    help="Runs autonomous agents, shows them at work, and puts interrupts into that work.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

models_app = typer.Typer(help="Say what is known of models.", no_args_is_help=True)
app.add_typer(models_app, name="models")

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

    async def work() -> None:
        await up.up(_environment(), Console(), Console(stderr=True))

    run(until_stopped(work()))


@app.command("demo")
def _demo(
    play: Annotated[
        bool, typer.Option("--play", help="Nudge the agent without a person, and check what comes of it.")
    ] = False,
) -> None:
    """Show an agent at work, with the commands that nudge it. Plays by itself without a terminal."""
    console = Console()
    by_itself = play or not console.is_interactive

    async def work() -> None:
        await (demo.play if by_itself else demo.demo)(_environment(), console)

    done = run(until_stopped(work()))
    if not by_itself:
        typer.echo("The services have stopped. The agent goes on at the next start.")
    elif not done:
        raise typer.Exit(130)


@app.command("create")
def _create(
    goal: Annotated[str, typer.Argument(metavar="GOAL", help="What the agent works towards.")],
    name: options.Name = None,
    model: options.Model = None,
    inner_voice_model: options.InnerVoiceModel = None,
    tools: options.Tools = None,
    inner_voice_prompt: options.InnerVoicePrompt = None,
    inner_voice: options.InnerVoice = None,
    mode: options.WhenTurnsStart = None,
    cooldown: options.Cooldown = None,
    max_rounds: options.MaxRounds = None,
    max_turns: options.MaxTurns = None,
    token_budget: options.TokenBudget = None,
    labels: options.Labels = None,
    watch_it: Annotated[bool, typer.Option("--watch", help="Watch the session at once.")] = False,
) -> None:
    """Create a session, which starts to work at once, and print its id."""

    async def work() -> None:
        wanted = requests.session(
            goal=goal,
            name=name,
            model=model,
            inner_voice_model=inner_voice_model,
            tools=tools,
            inner_voice_prompt=inner_voice_prompt,
            inner_voice=inner_voice,
            mode=mode,
            cooldown_seconds=cooldown,
            max_rounds=max_rounds,
            max_turns=max_turns,
            token_budget=token_budget,
            labels=labels,
        ).session
        async with _agent() as agent:
            session_id = (await sessions.create(agent, wanted)).session_id
            typer.echo(session_id)
            if watch_it:
                await until_stopped(_watch_session(agent, session_id))

    run(work())


@app.command("sessions")
def _sessions() -> None:
    """List the sessions, newest first."""

    async def work() -> None:
        async with _agent() as agent:
            listed = [session async for session in sessions.listed(agent, ListSessionsRequest())]
        _print(sessions.table(listed, datetime.now(UTC)))

    run(work())


@app.command("tools")
def _tools() -> None:
    """List the tools that sessions may use, and how their servers stand."""

    async def work() -> None:
        async with _agent() as agent:
            listed = await toolsets.listed(agent)
        _print(toolsets.table(listed, datetime.now(UTC)))

    run(work())


@models_app.command("check")
def _check_model(
    name: Annotated[str, typer.Argument(metavar="NAME", help="As sessions name it; else the usual.")] = "",
) -> None:
    """Find out where a model takes interrupts, and say how, and what could not be found out."""

    async def work() -> None:
        async with _agent() as agent:
            _print_rows(models.rows(await models.check(agent, name)))

    run(work())


@app.command("show")
def _show(reference: Reference) -> None:
    """Show how a session stands: what it does or why it waits, what is pending, and what helps."""

    async def work() -> None:
        async with _agent() as agent:
            standing = await show.standing(agent, await sessions.find(agent, reference))
        _print_rows(show.rows(standing, datetime.now(UTC)))

    run(work())


@app.command("update")
def _update(
    reference: Reference,
    goal: Annotated[str | None, typer.Option(metavar="TEXT", help="What the agent works towards.")] = None,
    name: options.Name = None,
    model: options.Model = None,
    inner_voice_model: options.InnerVoiceModel = None,
    tools: options.Tools = None,
    inner_voice_prompt: options.InnerVoicePrompt = None,
    inner_voice: options.InnerVoice = None,
    mode: options.WhenTurnsStart = None,
    cooldown: options.Cooldown = None,
    max_rounds: options.MaxRounds = None,
    max_turns: options.MaxTurns = None,
    token_budget: options.TokenBudget = None,
    labels: options.Labels = None,
) -> None:
    """Change a session. What is given replaces what was there; an empty value takes it away."""

    async def work() -> None:
        change = requests.session(
            goal=goal,
            name=name,
            model=model,
            inner_voice_model=inner_voice_model,
            tools=tools,
            inner_voice_prompt=inner_voice_prompt,
            inner_voice=inner_voice,
            mode=mode,
            cooldown_seconds=cooldown,
            max_rounds=max_rounds,
            max_turns=max_turns,
            token_budget=token_budget,
            labels=labels,
        )
        async with _agent() as agent:
            changed = await sessions.update(agent, await sessions.find(agent, reference), change)
        typer.echo(f"{changed.session_id} {sessions.state(changed)}")
        for line in changes.told(change.update_mask.paths):
            typer.echo(line)

    run(work())


@app.command("pause")
def _pause(reference: Reference) -> None:
    """Stop the work of a session at its next safe point."""
    _change(reference, sessions.pause)


@app.command("resume")
def _resume(reference: Reference) -> None:
    """Let a paused or failed session work on."""
    _change(reference, sessions.resume)


@app.command("end")
def _end(reference: Reference) -> None:
    """End a session for good."""
    _change(reference, sessions.end)


@app.command("watch")
def _watch(
    reference: Reference,
    after_revision: Annotated[int, typer.Option(min=0, help="Start after this revision.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print an event per line, as JSON.")] = False,
    deltas: Annotated[bool, typer.Option("--deltas", help="With --json: text as it streams, too.")] = False,
) -> None:
    """Show a session at work. Ctrl-C ends the watching, never the agent."""

    async def work() -> None:
        async with _agent() as agent:
            session_id = await sessions.find(agent, reference)
            await until_stopped(_watch_session(agent, session_id, after_revision, as_json, deltas))

    run(work())


@app.command("transcript")
def _transcript(reference: Reference) -> None:
    """Print the transcript of a session, whole."""

    async def work() -> None:
        async with _agent() as agent:
            console, session_id = Console(), await sessions.find(agent, reference)
            async for row in messages.read(messages.listed(agent, session_id)):
                console.out(look.line(row), highlight=False)

    run(work())


@app.command("interrupts")
def _interrupts(reference: Reference) -> None:
    """List the interrupts of a session, in the order of their posts."""

    async def work() -> None:
        async with _agent() as agent:
            session_id = await sessions.find(agent, reference)
            listed = [interrupt async for interrupt in interrupts.listed(agent, session_id)]
        _print(interrupts.table(listed, datetime.now(UTC)))

    run(work())


@app.command("cancel")
def _cancel(
    interrupt_id: Annotated[str, typer.Argument(metavar="INTERRUPT", help="The id of an interrupt.")],
) -> None:
    """Withdraw an interrupt that is still pending."""

    async def work() -> None:
        async with _gateway() as door:
            cancelled = await interrupts.cancel(door, interrupt_id)
        typer.echo(f"{cancelled.interrupt_id} {facts(cancelled)[-1]}")

    run(work())


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
        async with _agent() as agent:
            interrupt.session_id = await sessions.find(agent, reference)
        async with _gateway() as door:
            posted = (await post.post(door, interrupt, request_id)).interrupt
            typer.echo(f"{posted.interrupt_id} {facts(posted)[-1]}")
            if wait:
                await post.wait_until_seen(door, posted, timeout, typer.echo)

    run(work())


def _environment() -> dict[str, str]:
    return environment(os.environ, Path(".env"))


def _agent() -> AbstractAsyncContextManager[AgentService]:
    return agent_service(addresses(_environment()).agent)


def _gateway() -> AbstractAsyncContextManager[Gateway]:
    return gateway(addresses(_environment()).gateway)


def _change(reference: str, change: Callable[[AgentService, str], Awaitable[Session]]) -> None:
    """Change a session, and print what it is now."""

    async def work() -> None:
        async with _agent() as agent:
            changed = await change(agent, await sessions.find(agent, reference))
        typer.echo(f"{changed.session_id} {sessions.state(changed)}")

    run(work())


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
            await watch.show(news, console, watch.HINT)


def _print_rows(rows: Iterable[Row]) -> None:
    console = Console()
    for row in rows:
        console.out(look.line(row), highlight=False)


def _print(table: Table) -> None:
    # A file or a pipe has no width: nothing is folded for it.
    console = Console() if sys.stdout.isatty() else Console(width=_UNLIMITED_WIDTH)
    console.print(table)


if __name__ == "__main__":
    main()
