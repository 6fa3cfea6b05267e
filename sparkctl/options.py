"""The options that `create` and `update` share. None is an option that was not given."""

from typing import Annotated

import typer

from sparkctl.requests import Mode

Name = Annotated[str | None, typer.Option(metavar="NAME", help="A display name.")]
Model = Annotated[str | None, typer.Option(metavar="NAME", help="A model of the configuration.")]
InnerVoiceModel = Annotated[
    str | None, typer.Option(metavar="NAME", help="The model of the inner voice, if another.")
]
Tools = Annotated[
    list[str] | None,
    typer.Option("--tool", metavar="NAME", help="A tool or a set of tools. May be repeated."),
]
InnerVoicePrompt = Annotated[
    str | None, typer.Option(metavar="TEXT", help="The instruction of the inner voice.")
]
InnerVoice = Annotated[
    bool | None,
    typer.Option("--inner-voice/--no-inner-voice", help="Whether the inner voice opens each turn."),
]
WhenTurnsStart = Annotated[
    Mode | None,
    typer.Option(
        "--mode", metavar="WHEN", help="autonomous: turn after turn; on-interrupt: interrupts only."
    ),
]
Cooldown = Annotated[float | None, typer.Option(metavar="SECONDS", help="Pause between two turns.")]
MaxRounds = Annotated[int | None, typer.Option(metavar="N", min=0, help="Rounds of a turn; 0 is no limit.")]
MaxTurns = Annotated[
    int | None, typer.Option(metavar="N", min=0, help="Turns of the session; 0 is no limit.")
]
TokenBudget = Annotated[
    int | None,
    typer.Option(metavar="N", min=0, help="Tokens read and written; 0 is no limit."),
]
Labels = Annotated[
    list[str] | None, typer.Option("--label", metavar="KEY=VALUE", help="A label. May be repeated.")
]
