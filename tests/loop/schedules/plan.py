"""What happens to a session, as data."""

from dataclasses import dataclass
from enum import Enum, auto

from agent_service.domain import Delivery, Placement, RoundFailure, SessionConfig


@dataclass(frozen=True)
class Post:
    """Deposits an interrupt."""

    delivery: Delivery = Delivery.NEXT_ROUND
    bytes: int = 0
    source: str = "operator"
    coalesced: bool = False
    expires: bool = False
    # As a client does that has lost the acknowledgement.
    twice: bool = False
    # While the session goes on.
    behind: bool = False


@dataclass(frozen=True)
class Barge:
    """Deposits an interrupt with immediate delivery, and stops whatever can be interrupted until it is."""


@dataclass(frozen=True)
class Update:
    """Changes the goal, or a field of the configuration."""

    field: str
    value: object


class Deed(Enum):
    WITHDRAW = auto()  # the newest pending interrupt
    EXPIRE = auto()  # the expire times that are set come
    SWEEP = auto()
    PAUSE = auto()
    RESUME = auto()
    END = auto()
    PASS_TIME = auto()  # deadlines, back-off and cooldown are over


class Blow(Enum):
    """What befalls the worker that has the session."""

    LAPSE = auto()  # its lease runs out, and another replica takes the session
    DIE = auto()  # its process does
    STOP = auto()  # the service is about to, at the next safe point
    CUT_OFF = auto()  # which did not come in time


Outward = Post | Barge | Update | Deed
Act = Outward | Blow


@dataclass(frozen=True)
class Says:
    bytes: int = 0
    reasons: bool = False


@dataclass(frozen=True)
class Calls:
    tools: tuple[str, ...]
    says: bool = False
    # The arguments are no JSON.
    broken: bool = False


@dataclass(frozen=True)
class Fails:
    reason: RoundFailure
    # After the first chunk.
    late: bool = False


@dataclass(frozen=True)
class SaysNothing:
    """Not even a first chunk."""


@dataclass(frozen=True)
class Play:
    """How a model answers one request, and what happens before and after the first chunk of it."""

    reply: Says | Calls | Fails | SaysNothing = Says()
    before: tuple[Act, ...] = ()
    after: tuple[Act, ...] = ()


class Cut(Enum):
    """What becomes of a transaction whose outcome its writer never learns."""

    LOST = auto()
    COMMITTED = auto()
    HANGS_AND_IS_LOST = auto()
    HANGS_AND_LANDS = auto()
    # The writer does not outlive it either.
    DIES_BEFORE = auto()
    DIES_AFTER = auto()


@dataclass(frozen=True)
class Fault:
    """Befalls the n-th transaction of a run, from 1."""

    number: int
    cut: Cut


@dataclass(frozen=True)
class Run:
    """What happens before the session is claimed, and what befalls whoever claims it."""

    before: tuple[Outward, ...] = ()
    fault: Fault | None = None


CONFIG = SessionConfig("scripted")


@dataclass(frozen=True)
class Schedule:
    """The plays of the agent's model, of its inner voice and of summaries, and what the tools do, each in
    order; when they are over, each says something short."""

    runs: tuple[Run, ...] = ()
    agent: tuple[Play, ...] = ()
    voice: tuple[Play, ...] = ()
    summaries: tuple[Play, ...] = ()
    tools: tuple[tuple[Act, ...], ...] = ()
    config: SessionConfig = CONFIG
    window: int | None = None
    placement: Placement = Placement.SYSTEM
    # Whether the model says how many tokens it was asked.
    counts: bool = False
