"""What is known of how a model takes a conversation, and how it came to be known."""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from agent_service.domain.interrupt import Placement


@dataclass(frozen=True, slots=True)
class Profile:
    """Where interrupts go in a model's requests, and what else its chat template takes. Without a system role
    the system prompt opens the first message of the user. A call alone is one in a message of its own, with
    no words beside it: parallel calls are shown as if they had been made one after the other."""

    placement: Placement
    system_role: bool = True
    calls_alone: bool = False


# Until a server has been asked: what the fewest refuse.
UNDECIDED = Profile(Placement.TOOL)


class Evidence(Enum):
    """How a profile is known."""

    CONFIGURED = "configured"
    # The server showed the prompts that it makes.
    RENDERED = "rendered"
    # It took or refused requests, and counted their tokens.
    COUNTED = "counted"
    # It answers, but nothing could be found out.
    GUESSED = "guessed"
    # It refused a request for the interrupt in it.
    STEPPED_DOWN = "stepped_down"


class Trouble(Enum):
    """Why a placement will not do."""

    REFUSED = "refused"
    DROPPED = "dropped"
    DOUBLED = "doubled"
    # The interrupt is there, in another place.
    MOVED = "moved"
    # Something else is gone with it, such as the system prompt, or the model's reasoning.
    DISPLACES = "displaces"
    # What stands before it reads differently.
    REWRITES = "rewrites"
    # Nothing tells it from the words before it, or from the model's own.
    UNMARKED = "unmarked"
    # It is not the model's turn after it.
    UNOPENED = "unopened"
    # The model has no system role, or is shown no tool calls.
    UNKNOWN_ROLE = "unknown_role"
    # It could not be found out whether it does.
    UNTRIED = "untried"


@dataclass(frozen=True, slots=True)
class Trial:
    """A placement that was tried; without trouble it does. `where` is the position in which there was
    trouble, `detail` what the server said."""

    placement: Placement
    trouble: Trouble | None = None
    where: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """A profile, how it was found, and in words for people what else there is to know of it, above all what
    could not be found out."""

    profile: Profile
    evidence: Evidence
    trials: tuple[Trial, ...] = ()
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ProfileKey:
    """What a profile holds for. The template is a digest of what the server makes of a small conversation,
    empty where it does not show that."""

    server: str
    model: str
    template: str


@dataclass(frozen=True, slots=True)
class ModelCheck:
    """What was found out about a model just now, or why nothing could be."""

    name: str
    server: str
    model: str
    finding: Finding | None
    failure: str
    time: datetime
