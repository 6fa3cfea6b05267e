"""Tools that come and go together, and that sessions name as one."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Protocol

from agent_service.tools.protocol import Tool


class SetKind(Enum):
    BUILT_IN = "built_in"
    MCP = "mcp"


class SetState(Enum):
    STARTING = "starting"
    UP = "up"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class Offer:
    """A tool as people are shown it. One that is left out has the reason, and its own name."""

    name: str
    description: str
    left_out: str = ""


@dataclass(frozen=True, slots=True)
class Standing:
    """How a set stands."""

    name: str
    kind: SetKind
    state: SetState
    # None: it was never otherwise.
    since: datetime | None = None
    # Why it is down, in words for people.
    detail: str = ""
    offers: tuple[Offer, ...] = ()


class ToolSet(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def tools(self) -> Sequence[Tool]:
        """What it offers, or offered last if it is down. The name of each begins with that of the set and an
        underscore, which no name of a set and no name of a built-in tool has."""
        ...

    @property
    def standing(self) -> Standing: ...

    async def ready(self) -> None:
        """Wait until it has been up or down once, though not for long."""
        ...
