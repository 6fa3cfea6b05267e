"""What the database must say: the rules in plain Python, written from the design and not from the statements.

Nothing is counted that can be counted up: revisions are events, positions are rows with a position. Time is
in whole hours, and passes only when somebody lets it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from types import MappingProxyType

MAX_PENDING, MAX_PENDING_PER_SOURCE = 3, 2
SUSPECT_ATTEMPTS, MAX_ATTEMPTS = 2, 5
# Of what one request costs.
INPUT_TOKENS, OUTPUT_TOKENS = 10, 5

ALL_MODES = frozenset({"next_round", "next_turn", "immediate"})
NEXT_ROUND_MODES = ALL_MODES - {"next_turn"}

# The worker that took a session, told apart from all others by the epoch under which it did.
Key = tuple[str, int]


class Refused(Exception):
    """The store says no, with an error of this name."""


@dataclass(frozen=True)
class Post:
    """What is asked to be deposited; `expires` is an hour."""

    session: str
    source: str
    request_id: str
    text: str
    delivery: str = "next_round"
    key: str = ""
    expires: int | None = None

    @property
    def name(self) -> str:
        return f"{self.source} {self.request_id}"


@dataclass(frozen=True)
class Config:
    """A cooldown in hours; 0 is no limit."""

    autonomous: bool = True
    cooldown: int = 0
    max_rounds: int = 0
    max_turns: int = 0
    token_budget: int = 0


@dataclass(frozen=True)
class Message:
    """A row; the facts of it are revisions."""

    name: str
    type: str
    turn: int = 0
    round: int = 0
    position: int | None = None
    covers: int = 0
    deadline: int | None = None
    posted: int = 0
    delivered: int | None = None
    seen: int | None = None
    settled: int | None = None
    settled_as: str | None = None
    left_waiting: int | None = None
    principal: str = ""
    post: Post | None = None

    @property
    def pending(self) -> bool:
        return self.type == "system" and self.position is None and not self.settled

    @property
    def outstanding(self) -> bool:
        return self.type == "system" and not self.seen and not self.settled

    def is_over(self, clock: int) -> bool:
        """Whether it has expired."""
        return self.post is not None and self.post.expires is not None and self.post.expires <= clock

    @property
    def state(self) -> str:
        return self.settled_as or ("seen" if self.seen else "delivered" if self.delivered else "pending")


@dataclass(frozen=True)
class Event:
    type: str
    about: str | None = None
    facts: Mapping[str, object] = field(default_factory=dict)


@dataclass
class Session:
    name: str
    config: Config
    goal: str = "Keep the lamp."
    state: str = "active"
    turn: int = 0
    turn_open: bool = False
    turn_goal: str | None = None
    round: int = 0
    attempt: int = 0
    interrupted: bool = False
    due: int | None = None
    not_before: int | None = None
    owner: str | None = None
    epoch: int = 0
    attempts: int = 0
    tokens: int = 0
    rounds_from: int = 0
    tokens_from: int = 0
    messages: dict[str, Message] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    # Of no further interest: how it came out is not the same each time.
    retired: bool = False

    def copy(self) -> "Session":
        return replace(self, messages=dict(self.messages), events=list(self.events))

    # ---- what can be read off

    @property
    def revision(self) -> int:
        return len(self.events)

    @property
    def transcript(self) -> list[Message]:
        placed = {m.position: m for m in self.messages.values() if m.position}
        return [placed[position] for position in sorted(placed)]

    @property
    def next_position(self) -> int:
        return 1 + len(self.transcript)

    @property
    def outstanding(self) -> list[Message]:
        return [m for m in self.messages.values() if m.outstanding]

    @property
    def pending(self) -> list[Message]:
        return [m for m in self.messages.values() if m.pending]

    @property
    def unseen(self) -> list[Message]:
        return [m for m in self.transcript if m.outstanding]

    @property
    def open_calls(self) -> list[Message]:
        calls = [m for m in self.transcript if m.type == "tool_call"]
        return [call for call in calls if answer_to(call.name) not in self.messages]

    @property
    def wait(self) -> Message | None:
        return next((call for call in self.open_calls if call.deadline is not None), None)

    @property
    def voice_has_spoken(self) -> bool:
        return any(m.type == "user" and m.turn == self.turn for m in self.messages.values())

    @property
    def replied(self) -> bool:
        """Whether the newest round has its reply."""
        return any(
            m.type in ("assistant", "tool_call") and (m.turn, m.round) == (self.turn, self.round)
            for m in self.messages.values()
        )

    @property
    def next_round(self) -> int:
        return self.round + 1 if not self.round or self.replied else self.round

    @property
    def shown(self) -> list[Message]:
        """What a request is built from: the newest summary, and every row after those that it covers."""
        summaries = [m for m in self.transcript if m.type == "summary"]
        covered = max((m.covers for m in summaries), default=0)
        rest = [m for m in self.transcript[covered:] if m.type != "summary"]
        return [m for m in summaries if m.covers == covered] + rest

    # ---- what happens

    def record(self, kind: str, about: str | None = None, **facts: object) -> int:
        self.events.append(Event(kind, about, facts))
        return self.revision

    def tell(self) -> None:
        """The session as it is now becomes a fact."""
        self.record("session_changed", state=self.state, goal=self.goal, turn=self.turn)

    def append(
        self,
        name: str,
        kind: str,
        event: str = "message_appended",
        facts: Mapping[str, object] = MappingProxyType({}),
        **columns: object,
    ) -> None:
        position, revision = self.next_position, self.record(event, name, **facts)
        at = {"turn": self.turn, "round": self.round} | columns
        self.messages[name] = Message(name, kind, position=position, posted=revision, **at)  # type: ignore[arg-type]

    def answer(self, call: Message) -> None:
        self.append(answer_to(call.name), "tool_response", turn=call.turn, round=call.round)

    def change(self, name: str, **columns: object) -> None:
        self.messages[name] = replace(self.messages[name], **columns)  # type: ignore[arg-type]

    def settle(self, names: Iterable[str], settled_as: str) -> None:
        for name in list(names):
            self.change(name, settled=self.record("interrupt_settled", name), settled_as=settled_as)

    def see(self, names: Iterable[str]) -> None:
        for name in names:
            self.change(name, seen=self.record("interrupt_seen", name))

    def due_messages(self, modes: frozenset[str], clock: int) -> list[Message]:
        """What waits and is due here. The expired is settled on the way."""
        waiting = [m for m in self.pending if m.post and m.post.delivery in modes]
        self.settle((m.name for m in waiting if m.is_over(clock)), "expired")
        return [m for m in waiting if not m.is_over(clock)]

    def deliver(self, waiting: Sequence[Message], admitted: int) -> None:
        left = len(waiting) - admitted
        for message in waiting[:admitted]:
            last = message is waiting[:admitted][-1]
            self.change(
                message.name,
                position=self.next_position,
                turn=self.turn,
                round=self.round,
                delivered=self.record("interrupt_delivered", message.name),
                left_waiting=left if last and left > 0 else None,
            )

    def reaches_limit(self, new_turn: bool = False, new_round: bool = False) -> bool:
        """At a limit the session pauses."""
        config = self.config
        reached = (
            (new_turn and 0 < config.max_turns <= self.turn)
            or 0 < config.token_budget <= self.tokens - self.tokens_from
            or (new_round and 0 < config.max_rounds <= self.round - self.rounds_from)
        )
        if reached:
            self.state = "paused"
            self.tell()
        return reached

    def release(self, clock: int, open_turn_due: int | None = None) -> None:
        """Nobody's from now on: an open turn goes on now or at an hour, a closed one as it was to."""
        self.owner, self.epoch = None, self.epoch + 1
        if self.turn_open:
            self.due = clock if open_turn_due is None else open_turn_due
        elif not self.config.autonomous:
            self.due = None

    def spend(self) -> None:
        self.tokens += INPUT_TOKENS + OUTPUT_TOKENS


class Stage(Enum):
    """What a worker does next."""

    LOAD = auto()
    BEGIN_TURN = auto()
    BEGIN_VOICE_AGAIN = auto()
    SPEAK = auto()
    REPAIR = auto()
    BEGIN_ROUND = auto()
    ASKED = auto()
    REPLY = auto()
    TOOLS = auto()


@dataclass
class Hand:
    """A worker that has taken a session, or believes so, and how the session was when it last wrote."""

    session: str
    epoch: int
    view: Session
    stage: Stage = Stage.LOAD


@dataclass
class Replica:
    lease_until: int
    takes: bool = True


@dataclass
class Model:
    clock: int = 0
    sessions: dict[str, Session] = field(default_factory=dict)
    replicas: dict[str, Replica] = field(default_factory=dict)
    hands: dict[Key, Hand] = field(default_factory=dict)
    # Whether something else goes on at the same time, which what skips locked rows may pass by.
    contended: bool = False

    def copy(self) -> "Model":
        return replace(
            self,
            sessions={name: session.copy() for name, session in self.sessions.items()},
            replicas={name: replace(replica) for name, replica in self.replicas.items()},
            hands={key: replace(hand) for key, hand in self.hands.items()},
        )

    def only(self, session: str) -> "Model":
        """As if there were no other session."""
        hands = {key: hand for key, hand in self.hands.items() if hand.session == session}
        return replace(self, sessions={session: self.sessions[session]}, hands=hands)

    @property
    def live(self) -> list[Session]:
        return [session for session in self.sessions.values() if not session.retired]

    @property
    def living(self) -> list[str]:
        """The replicas whose leases have not run out."""
        return [name for name in self.replicas if self.is_alive(name)]

    def retire(self, session: str) -> None:
        self.sessions[session].retired = True
        self.hands = {key: hand for key, hand in self.hands.items() if hand.session != session}

    def is_alive(self, replica: str | None) -> bool:
        return replica in self.replicas and self.replicas[replica].lease_until > self.clock

    def writer(self, key: Key, takes_positions: bool = False) -> tuple[Hand, Session]:
        """The worker and its session, if it may still write; otherwise it forgets the session."""
        hand = self.hands[key]
        session = self.sessions[hand.session]
        stale = takes_positions and session.next_position != hand.view.next_position
        if session.epoch != hand.epoch or stale:
            del self.hands[key]
            raise Refused("LeaseLost")
        return hand, session

    def goes_on(self, hand: Hand, stage: Stage) -> None:
        hand.view, hand.stage = self.sessions[hand.session].copy(), stage

    def forget(self, key: Key) -> None:
        """The session is released, and the worker done with it."""
        del self.hands[key]

    # ---- who may be claimed

    def _free(self, session: Session) -> bool:
        waits = session.not_before is not None and session.not_before > self.clock
        return session.state == "active" and session.owner is None and not waits and self._is_due(session)

    def _is_due(self, session: Session) -> bool:
        return bool(session.outstanding) or (session.due is not None and session.due <= self.clock)

    def _orphaned(self, session: Session) -> bool:
        return session.state == "active" and session.owner is not None and not self.is_alive(session.owner)

    def due(self) -> set[str]:
        return {s.name for s in self.sessions.values() if self._free(s) and s.attempts < SUSPECT_ATTEMPTS}

    def from_dead(self) -> set[str]:
        found = (s for s in self.sessions.values() if self._orphaned(s))
        return {s.name for s in found if s.attempts + 1 < SUSPECT_ATTEMPTS}

    def suspects(self) -> dict[str, int]:
        """Sessions that may take their worker with them, and the takeovers that it will have been."""
        takeovers = {s.name: s.attempts for s in self.sessions.values() if self._free(s)}
        takeovers |= {s.name: s.attempts + 1 for s in self.sessions.values() if self._orphaned(s)}
        return {name: n for name, n in takeovers.items() if SUSPECT_ATTEMPTS <= n < MAX_ATTEMPTS}

    def takeable(self) -> set[str]:
        return self.due() | self.from_dead() | set(self.suspects())

    def exhausted(self) -> set[str]:
        found = (s for s in self.sessions.values() if self._orphaned(s))
        return {s.name for s in found if s.attempts + 1 >= MAX_ATTEMPTS}


def answer_to(call: str) -> str:
    """The name of a call's response."""
    return f"{call} answered"
