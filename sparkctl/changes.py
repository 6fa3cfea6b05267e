"""Changes of a session: which fields, in words, and from when on they count."""

from collections.abc import Iterable

from spark.agent.v1.session_pb2 import Session, SessionConfig

_CONFIG = "config."
_OWN_FIELDS = ("display_name", "goal", "labels")

# All else is what the agent is told or asked with, and that stays as it is until a turn is over.
_AT_ONCE = frozenset(
    {
        "display_name",
        "labels",
        "config.mode",
        "config.cooldown",
        "config.max_rounds_per_turn",
        "config.max_turns",
        "config.token_budget",
    }
)


def between(before: Session, after: Session) -> list[str]:
    """The fields in which two states of a session differ, as paths of an update mask."""
    own = [name for name in _OWN_FIELDS if getattr(before, name) != getattr(after, name)]
    config = [
        f"{_CONFIG}{field.name}"
        for field in SessionConfig.DESCRIPTOR.fields
        if getattr(before.config, field.name) != getattr(after.config, field.name)
    ]
    return own + config


def named(paths: Iterable[str]) -> str:
    """The fields as the options of the command line name them."""
    return ", ".join(path.removeprefix(_CONFIG).removeprefix("disable_").replace("_", " ") for path in paths)


def told(paths: Iterable[str]) -> list[str]:
    """What was changed, a line for what counts at once and one for what counts later."""
    at_once = [path for path in paths if path in _AT_ONCE]
    later = [path for path in paths if path not in _AT_ONCE]
    lines = {"changed at once": at_once, "changed from the next turn on": later}
    return [f"{what}: {named(fields)}" for what, fields in lines.items() if fields]
