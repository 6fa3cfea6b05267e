"""What there is to be judged: each session with all that was said to it, by it and about it."""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from itertools import groupby, pairwise

from tests.torture.checker.records import Asked, Call, Fault, Interrupt, Opened, Response, Run
from tests.torture.checker.rows import REPLIES, EventRow, ListLine, MessageRow, SessionRow

# What is wrong, and what it is seen by.
Finding = tuple[str, object]


@dataclass(frozen=True, slots=True)
class Post:
    """One attempt to post an interrupt, through whichever door."""

    began: float
    at: float
    request_id: str
    sent: Interrupt
    told: Interrupt | None
    duplicate: bool
    refusal: str | None

    @property
    def key(self) -> tuple[str, str]:
        return self.sent.source, self.request_id

    def __str__(self) -> str:
        return f"the post {self.key} of {self.began:.3f}"


class Asker(Enum):
    AGENT = "the agent"
    VOICE = "the inner voice"
    SUMMARY = "compaction"
    # Whether the server takes a request is found out with one of a single token.
    TRIAL = "a trial"


@dataclass(frozen=True, slots=True)
class Shown:
    """What a request shows: from a summary, if it has one, through a position. Where it shows something else,
    that is said, and it counts as one that shows what there was."""

    asked: Asked
    by: Asker
    covers: int
    through: int
    wrong: str = ""

    @property
    def first_at(self) -> float:
        return self.asked.first_at or self.asked.began

    def __str__(self) -> str:
        return f"{self.by.value}: {self.asked}"


@dataclass
class Stream:
    opened: Opened
    responses: list[Response] = field(default_factory=list)
    # When each of them was heard.
    heard_at: list[float] = field(default_factory=list)
    # None: the harness never saw its end.
    code: str | None = None
    closed_at: float | None = None

    def __str__(self) -> str:
        return f"stream {self.opened.stream} by {self.opened.by}"


@dataclass
class Session:
    run: Run
    row: SessionRow
    # When everything is quiet, and when the run was over.
    calm_at: float = 0
    end_at: float = 0
    faults: list[Fault] = field(default_factory=list)
    messages: list[MessageRow] = field(default_factory=list)
    events: list[EventRow] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    # What the requests of the agent and its inner voice show, in their order.
    shown: list[Shown] = field(default_factory=list)
    posts: list[Post] = field(default_factory=list)
    # Calls of other methods.
    calls: list[Call] = field(default_factory=list)
    streams: list[Stream] = field(default_factory=list)
    watches: list[Stream] = field(default_factory=list)
    listed: list[ListLine] = field(default_factory=list)
    # Every request of its models was received by the scripted server.
    is_scripted: bool = True

    @cached_property
    def by_id(self) -> dict[str, MessageRow]:
        return {row.message_id: row for row in self.messages}

    @cached_property
    def transcript(self) -> list[MessageRow]:
        return sorted((row for row in self.messages if row.position), key=lambda row: row.place)

    @cached_property
    def interrupts(self) -> list[MessageRow]:
        """In the order of their deposit."""
        rows = (row for row in self.messages if row.type == "system")
        return sorted(rows, key=lambda row: row.posted_revision)

    @cached_property
    def summaries(self) -> list[MessageRow]:
        return [row for row in self.transcript if row.type == "summary"]

    @cached_property
    def replies(self) -> list[list[MessageRow]]:
        """The rows of each reply of the agent."""
        groups = groupby(self.transcript, lambda row: (row.type in REPLIES, row.turn, row.round))
        return [list(rows) for (is_reply, _, _), rows in groups if is_reply]

    @cached_property
    def transactions(self) -> list[list[EventRow]]:
        """The events, those together that were committed together."""
        return [list(events) for _, events in groupby(self.events, lambda event: event.create_time)]

    @cached_property
    def is_told_as_text(self) -> bool:
        """Requests of the agent show calls as text, or their prompt in a message with more in it."""
        profile = self.row.profile
        return any(row.placement == "text" for row in self.interrupts) or bool(
            profile and (profile.placement == "text" or not profile.system_role)
        )

    @cached_property
    def as_shown(self) -> list[MessageRow]:
        """The transcript without summaries, responses in the order of their calls."""
        calls = {call_key(row): row.place for row in self.transcript if row.type == "tool_call"}
        shown: list[MessageRow] = []
        for kind, group in groupby(self.transcript, lambda row: row.type):
            rows = list(group)
            if kind == "tool_response":
                rows.sort(key=lambda row: calls.get(call_key(row), row.place))
            shown += rows if kind != "summary" else []
        return shown

    def shown_after(self, position: int) -> Iterator[MessageRow]:
        first = bisect_right(self._places, position)
        return (self.as_shown[n] for n in range(first, len(self.as_shown)))

    @cached_property
    def _places(self) -> list[int]:
        return sorted(row.place for row in self.as_shown)

    def shown_to(self, by: Asker) -> list[Shown]:
        return [shown for shown in self.shown if shown.by is by]

    def of_type(self, kind: str) -> Iterator[EventRow]:
        return (event for event in self.events if event.type == kind)

    @cached_property
    def resumed_at(self) -> list[float]:
        states = [(event.told.state, event.create_time) for event in self.of_type("session_changed")]
        return [at for (before, _), (state, at) in pairwise(states) if state == "active" != before]

    @cached_property
    def end_began_at_revision(self) -> int | None:
        """The first revision of the transaction that ended the session."""
        for events in self.transactions:
            if any(event.type == "session_changed" and event.told.state == "ended" for event in events):
                return events[0].revision
        return None


def call_key(row: MessageRow) -> tuple[int, int, str | None]:
    return row.turn, row.round, row.call_id


@dataclass
class Evidence:
    run: Run
    calm_at: float
    end_at: float
    faults: list[Fault]
    sessions: list[Session]
    # Acknowledged, and about no session that is in the database.
    strays: list[str]
