"""Commands on sessions."""

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console

from spark.agent.v1.agent_service_pb2 import ListSessionsRequest
from spark.agent.v1.session_pb2 import Session
from sparkctl import changes, look, messages, options, requests, sessions, show, watch
from sparkctl.commands import common
from sparkctl.connections import AgentService
from sparkctl.follow import follow
from sparkctl.running import run, until_stopped


def create(
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
        async with common.agent() as agent:
            session_id = (await sessions.create(agent, wanted)).session_id
            typer.echo(session_id)
            if watch_it:
                await until_stopped(_follow(agent, session_id))

    run(work())


def list_sessions() -> None:
    """List the sessions, newest first."""

    async def work() -> None:
        async with common.agent() as agent:
            listed = [session async for session in sessions.listed(agent, ListSessionsRequest())]
        common.print_table(sessions.table(listed, datetime.now(UTC)))

    run(work())


def show_session(reference: common.Reference) -> None:
    """Show how a session stands: what it does or why it waits, what is pending, and what helps."""

    async def work() -> None:
        async with common.agent() as agent:
            standing = await show.standing(agent, await sessions.find(agent, reference))
        common.print_rows(show.rows(standing, datetime.now(UTC)))

    run(work())


def update(
    reference: common.Reference,
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
        async with common.agent() as agent:
            changed = await sessions.update(agent, await sessions.find(agent, reference), change)
        typer.echo(f"{changed.session_id} {sessions.state(changed)}")
        for line in changes.told(change.update_mask.paths):
            typer.echo(line)

    run(work())


def pause(reference: common.Reference) -> None:
    """Stop the work of a session at its next safe point."""
    _change(reference, sessions.pause)


def resume(reference: common.Reference) -> None:
    """Let a paused or failed session work on."""
    _change(reference, sessions.resume)


def end(reference: common.Reference) -> None:
    """End a session for good."""
    _change(reference, sessions.end)


def watch_session(
    reference: common.Reference,
    after_revision: Annotated[int, typer.Option(min=0, help="Start after this revision.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print an event per line, as JSON.")] = False,
    deltas: Annotated[bool, typer.Option("--deltas", help="With --json: text as it streams, too.")] = False,
) -> None:
    """Show a session at work. Ctrl-C ends the watching, never the agent."""

    async def work() -> None:
        async with common.agent() as agent:
            session_id = await sessions.find(agent, reference)
            await until_stopped(_follow(agent, session_id, after_revision, as_json, deltas))

    run(work())


def print_transcript(reference: common.Reference) -> None:
    """Print the transcript of a session, whole."""

    async def work() -> None:
        async with common.agent() as agent:
            console, session_id = Console(), await sessions.find(agent, reference)
            async for row in messages.read(messages.listed(agent, session_id)):
                console.out(look.line(row), highlight=False)

    run(work())


def _change(reference: str, change: Callable[[AgentService, str], Awaitable[Session]]) -> None:
    """Change a session, and print what it is now."""

    async def work() -> None:
        async with common.agent() as agent:
            changed = await change(agent, await sessions.find(agent, reference))
        typer.echo(f"{changed.session_id} {sessions.state(changed)}")

    run(work())


async def _follow(
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
