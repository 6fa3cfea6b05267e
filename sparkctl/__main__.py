"""sparkctl: the list of its commands."""

import sys

import typer

from sparkctl.commands import configuration, interrupts, services, sessions


def main() -> None:
    if any("\ud800" <= character <= "\udfff" for argument in sys.argv for character in argument):
        sys.exit("sparkctl: the arguments are not valid text")
    application()(prog_name="sparkctl")


def application() -> typer.Typer:
    help_text = "Runs autonomous agents, shows them at work, and puts interrupts into that work."
    app = typer.Typer(
        help=help_text, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
    )
    models = typer.Typer(help="Say what is known of models.", no_args_is_help=True)
    app.command("up")(services.run_services)
    app.command("demo")(services.run_demo)
    app.command("create")(sessions.create)
    app.command("sessions")(sessions.list_sessions)
    app.command("show")(sessions.show_session)
    app.command("update")(sessions.update)
    app.command("pause")(sessions.pause)
    app.command("resume")(sessions.resume)
    app.command("end")(sessions.end)
    app.command("watch")(sessions.watch_session)
    app.command("transcript")(sessions.print_transcript)
    app.command("post")(interrupts.post_interrupt)
    app.command("interrupts")(interrupts.list_interrupts)
    app.command("cancel")(interrupts.cancel)
    app.command("tools")(configuration.list_tools)
    models.command("check")(configuration.check_model)
    app.add_typer(models, name="models")
    return app


if __name__ == "__main__":
    main()
