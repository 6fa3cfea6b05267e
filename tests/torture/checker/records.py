"""The lines that a run leaves behind, as far as they are read. Times are seconds since the epoch."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal, TypeAlias

from pydantic import BeforeValidator, Field


def seconds(time: object) -> object:
    """A time as protobuf and PostgreSQL write it in JSON, or as the harness does."""
    return datetime.fromisoformat(time).timestamp() if isinstance(time, str) else time


Moment: TypeAlias = Annotated[float, BeforeValidator(seconds)]
Json: TypeAlias = Mapping[str, object]

# ---- what clients said and were told, as the contract has it


@dataclass(frozen=True, slots=True)
class Nudge:
    text: str = ""


@dataclass(frozen=True, slots=True)
class Notification:
    type: str = ""
    subject: str = ""
    text: str = ""
    data: Json | None = None


@dataclass(frozen=True, slots=True)
class Interrupt:
    session_id: str
    interrupt_id: str = ""
    source: str = ""
    delivery: str = "DELIVERY_NEXT_ROUND"
    state: str = "INTERRUPT_STATE_UNSPECIFIED"
    coalesce_key: str = ""
    expire_time: Moment | None = None
    nudge: Nudge | None = None
    notification: Notification | None = None

    @property
    def asks(self) -> tuple[object, ...]:
        """What a retry has to repeat."""
        return self.nudge, self.notification, self.delivery, self.coalesce_key, self.expire_time


@dataclass(frozen=True, slots=True)
class SessionTold:
    session_id: str = ""
    state: str = ""


@dataclass(frozen=True, slots=True)
class Request:
    """Of any method: what it has of these."""

    session_id: str = ""
    interrupt_id: str = ""
    request_id: str = ""
    after_revision: int = 0
    session: SessionTold | None = None
    interrupt: Interrupt | None = None
    deposits: tuple["Request", ...] = ()


@dataclass(frozen=True, slots=True)
class Error:
    code: str | int
    reason: str | None = None
    message: str = ""
    details: tuple[Json, ...] = ()

    @property
    def refusal(self) -> str | None:
        """The reason that a service gave. None where it may have done what it was asked for."""
        told = [self.reason, *(detail.get("reason") for detail in self.details)]
        return next((str(reason) for reason in told if reason and reason != "UNAVAILABLE"), None)


@dataclass(frozen=True, slots=True)
class Answer:
    """Of any method: what it has of these."""

    interrupt: Interrupt | None = None
    duplicate: bool = False
    session: SessionTold | None = None
    error: Error | None = None
    results: tuple["Answer", ...] = ()


@dataclass(frozen=True, slots=True)
class Response:
    """A piece of a stream. Events are kept as they came, to be compared."""

    events: tuple[Json, ...] = ()
    last_revision: int = 0
    synced: bool = False
    interrupt: Interrupt | None = None


# ---- history.jsonl


@dataclass(frozen=True, slots=True)
class Run:
    what: Literal["run"]
    at: Moment
    seed: int
    poll_seconds: float
    lease_seconds: float
    model_seconds: float
    kinds: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Call:
    what: Literal["call"]
    began: Moment
    at: Moment
    by: str
    door: str
    method: str
    request: Request
    answer: Answer | None
    error: Error | None


@dataclass(frozen=True, slots=True)
class Opened:
    what: Literal["opened"]
    at: Moment
    stream: int
    by: str
    door: str
    method: str
    request: Request


@dataclass(frozen=True, slots=True)
class Got:
    what: Literal["got"]
    at: Moment
    stream: int
    response: Response


@dataclass(frozen=True, slots=True)
class Closed:
    what: Literal["closed"]
    at: Moment
    stream: int
    code: str


@dataclass(frozen=True, slots=True)
class Function:
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ChatCall:
    id: str
    function: Function


@dataclass(frozen=True, slots=True)
class ChatMessage:
    role: str
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: tuple[ChatCall, ...] = ()
    tool_call_id: str = ""

    @property
    def words(self) -> str:
        return self.content or ""


@dataclass(frozen=True, slots=True)
class Body:
    messages: tuple[ChatMessage, ...]
    tools: tuple[Json, ...] = ()
    max_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class ReplyCall:
    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that the model server received, and how far it replied."""

    what: Literal["asked"]
    began: Moment
    at: Moment
    model: str
    body: Body
    chunks: int
    text: str
    calls: tuple[ReplyCall, ...]
    ending: str
    first_at: Moment | None = None

    def __str__(self) -> str:
        return f"the request of {self.began:.3f} with {len(self.body.messages)} messages, {self.ending}"


@dataclass(frozen=True, slots=True)
class Ran:
    what: Literal["ran"]
    at: Moment


@dataclass(frozen=True, slots=True)
class Fault:
    what: Literal["fault"]
    began: Moment
    at: Moment
    kind: str
    target: str


@dataclass(frozen=True, slots=True)
class Calm:
    what: Literal["calm"]
    at: Moment


@dataclass(frozen=True, slots=True)
class End:
    what: Literal["end"]
    at: Moment


Line: TypeAlias = Annotated[
    Run | Call | Opened | Got | Closed | Asked | Ran | Fault | Calm | End, Field(discriminator="what")
]
