"""One agent with its goal, its configuration and its state."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

from agent_service.domain.ids import SessionId
from agent_service.domain.interrupt import Placement
from agent_service.domain.profile import Profile


class SessionState(Enum):
    ACTIVE = "active"
    PAUSED = "paused"
    ENDED = "ended"
    FAILED = "failed"


class SessionMode(Enum):
    AUTONOMOUS = "autonomous"
    ON_INTERRUPT = "on_interrupt"


class Activity(Enum):
    """What an agent does at the moment of reading."""

    RUNNING = "running"
    WAITING = "waiting"
    BACKING_OFF = "backing_off"
    IDLE = "idle"
    QUEUED = "queued"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class SessionConfig:
    """How an agent runs. Limits of 0 mean none."""

    model: str
    inner_voice_model: str = ""
    tools: tuple[str, ...] = ()
    inner_voice_prompt: str = ""
    disable_inner_voice: bool = False
    mode: SessionMode = SessionMode.AUTONOMOUS
    cooldown: timedelta = timedelta(0)
    max_rounds_per_turn: int = 0
    max_turns: int = 0
    token_budget: int = 0

    @property
    def models(self) -> frozenset[str]:
        """The names of those that a turn asks."""
        voice = () if self.disable_inner_voice else (self.inner_voice_model or self.model,)
        return frozenset((self.model, *voice))


@dataclass(frozen=True, slots=True)
class Usage:
    """What model servers counted."""

    input_tokens: int = 0
    cached_input_tokens: int = 0
    output_tokens: int = 0
    model_requests: int = 0


@dataclass(frozen=True, slots=True)
class NewSession:
    """What a caller asks for. The digest covers the request as it was sent."""

    display_name: str
    goal: str
    config: SessionConfig
    labels: Mapping[str, str]
    request_id: str = ""
    digest: bytes = b""


@dataclass(frozen=True, slots=True)
class Session:
    session_id: SessionId
    display_name: str
    goal: str
    state: SessionState
    state_reason: str
    config: SessionConfig
    labels: Mapping[str, str]
    revision: int
    turn: int
    create_time: datetime


@dataclass(frozen=True, slots=True)
class SessionReading:
    """A session with what was read beside its facts at one moment."""

    session: Session
    activity: Activity
    outstanding: int
    next_turn_time: datetime | None
    usage: Usage


@dataclass(frozen=True, slots=True)
class Terms:
    """What a turn runs with, fixed at its start: a change of the session counts from the next turn on, and in
    an open one only where the session is resumed or a model of the turn is configured no longer. The notes
    are those that are part of the system prompt, and `announced` is the place of interrupts that it names.
    There are no profiles while nobody knows them."""

    goal: str
    config: SessionConfig
    system_prompt: str
    tool_specs_json: str
    notes: tuple[str, ...] = ()
    announced: Placement | None = None
    profile: Profile | None = None
    voice_profile: Profile | None = None


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to write a session's transcript, until somebody claims the session again or it ends."""

    session_id: SessionId
    epoch: int
