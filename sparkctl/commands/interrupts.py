"""Commands on interrupts."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from sparkctl import interrupts, post, requests, sessions
from sparkctl.commands import common
from sparkctl.requests import When
from sparkctl.running import run
from sparkctl.words import facts


def post_interrupt(
    reference: common.Reference,
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
    expires_at: Annotated[
        str,
        typer.Option(metavar="TIME", help="The same as a time, RFC 3339: fit for a repeated --request-id."),
    ] = "",
    request_id: Annotated[
        str, typer.Option(metavar="ID", help="The same id posts once, however often it is used.")
    ] = "",
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the model has seen it.")] = False,
    timeout: Annotated[float | None, typer.Option(metavar="SECONDS", help="With --wait: how long.")] = None,
) -> None:
    """Post an interrupt and print its id. With --wait the exit code is 0 only if the model has seen it."""

    async def work() -> None:
        interrupt = requests.interrupt(
            text, source, notify, subject, data, delivery, coalesce_key, expires, expires_at
        )
        async with common.agent() as agent:
            interrupt.session_id = await sessions.find(agent, reference)
        async with common.gateway() as door:
            posted = (await post.post(door, interrupt, request_id)).interrupt
            typer.echo(f"{posted.interrupt_id} {facts(posted)[-1]}")
            if wait:
                await post.wait_until_seen(door, posted, timeout, typer.echo)

    run(work())


def list_interrupts(reference: common.Reference) -> None:
    """List the interrupts of a session, in the order of their posts."""

    async def work() -> None:
        async with common.agent() as agent:
            session_id = await sessions.find(agent, reference)
            listed = [interrupt async for interrupt in interrupts.listed(agent, session_id)]
        common.print_table(interrupts.table(listed, datetime.now(UTC)))

    run(work())


def cancel(
    interrupt_id: Annotated[str, typer.Argument(metavar="INTERRUPT", help="The id of an interrupt.")],
) -> None:
    """Withdraw an interrupt that is still pending."""

    async def work() -> None:
        async with common.gateway() as door:
            cancelled = await interrupts.cancel(door, interrupt_id)
        typer.echo(f"{cancelled.interrupt_id} {facts(cancelled)[-1]}")

    run(work())
