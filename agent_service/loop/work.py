"""A session in its holder's hands: the rows as the database has them, and where the turn stands."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import takewhile

from agent_service.domain import (
    UNDECIDED,
    Content,
    Interrupt,
    JsonObject,
    Lease,
    Message,
    MessageId,
    MessageType,
    Place,
    Placement,
    Portion,
    Profile,
    Session,
    SessionConfig,
    Speaker,
    Terms,
    ToolCall,
)
from agent_service.loop import conversation
from agent_service.loop.frame import harmless_json
from agent_service.loop.placement import placed
from agent_service.loop.prompt import system_prompt
from agent_service.loop.window import UNKNOWN, Window, size
from agent_service.model import ToolSpec
from agent_service.store.safe_points import SafePoint
from agent_service.store.standing import Standing
from agent_service.store.transcript import Snapshot
from agent_service.tools import Toolbox

REPLY_TYPES = frozenset({MessageType.ASSISTANT, MessageType.TOOL_CALL})


@dataclass(slots=True)
class Work:
    """Changes only after a commit has said so: what is here is what a rebuild would give."""

    lease: Lease
    session: Session
    toolbox: Toolbox
    # What is known of the model of a name.
    known: Callable[[str], Profile | None]
    # What the newest turn runs with; None before the first. Outdated, it is to go on with something else.
    terms: Terms | None
    terms_outdated: bool
    frame_tag: str
    turn_open: bool
    place: Place
    # Whether a request of this round was cancelled for an interrupt.
    interrupted: bool
    next_position: int
    # The last request of the agent with its reply; 0 where nobody has counted it.
    context_tokens: int
    rows: list[Message]
    # Delivered, and in no request yet that a model has begun to answer.
    unseen: list[MessageId]
    # Where it stood, and what waited, when it was loaded.
    found: Standing
    # Of the last safe point: an interrupt posted later has not been met by one.
    revision: int = 0
    window: Window = UNKNOWN
    offered: tuple[ToolSpec, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.offered = _tool_specs(self.terms)

    @classmethod
    def of(
        cls, lease: Lease, snapshot: Snapshot, toolbox: Toolbox, known: Callable[[str], Profile | None]
    ) -> "Work":
        found = snapshot.standing
        return cls(
            lease,
            found.session,
            toolbox,
            known,
            snapshot.terms,
            snapshot.terms_outdated,
            snapshot.frame_tag,
            snapshot.turn_open,
            found.place,
            found.interrupted,
            found.next_position,
            snapshot.context_tokens,
            list(snapshot.rows),
            [
                row.message_id
                for row in snapshot.rows
                if isinstance(row.content, Interrupt) and row.content.seen is None
            ],
            found,
            window=Window(None, snapshot.bytes_per_token),
        )

    @property
    def config(self) -> SessionConfig:
        """What the turn runs with, or the first one would."""
        return self.terms.config if self.terms else self.session.config

    @property
    def models(self) -> frozenset[str]:
        """The names of those that the open turn runs with, or the next one will."""
        return (self.config if self.turn_open else self.session.config).models

    def model(self, speaker: Speaker) -> str:
        """The name of the model that speaks."""
        of_voice = self.config.inner_voice_model if speaker is Speaker.INNER_VOICE else ""
        return of_voice or self.config.model

    @property
    def goal(self) -> str:
        return self.terms.goal if self.terms else self.session.goal

    @property
    def profile(self) -> Profile:
        """How the agent's model is shown the conversation."""
        return (self.terms and self.terms.profile) or UNDECIDED

    @property
    def voice_profile(self) -> Profile:
        return (self.terms and self.terms.voice_profile) or UNDECIDED

    @property
    def tools(self) -> tuple[ToolSpec, ...]:
        """What the agent's model is offered."""
        return () if self.profile.placement is Placement.TEXT else self.offered

    def next_terms(self, now: Session) -> Terms:
        """What a turn runs with that starts now, or goes on with what was changed. What the model was told
        stays, as long as the goal and the place of interrupts do."""
        before, profile = self.terms, self.known(now.config.model)
        notes, announced = before.notes if before else (), profile.placement if profile else None
        prompt = (
            before.system_prompt
            if before and (before.goal, before.announced) == (now.goal, announced)
            else system_prompt(now.goal, self.frame_tag, notes, announced)
        )
        specs = _stored(self.toolbox.specs(now.config.tools), self.frame_tag)
        voice_profile = self.known(now.config.inner_voice_model or now.config.model)
        return Terms(now.goal, now.config, prompt, specs, notes, announced, profile, voice_profile)

    def terms_with(self, name: str, profile: Profile) -> Terms:
        """What the turn runs with, and this profile of one of its models."""
        assert self.terms, "a turn has begun"
        of_agent, of_voice = self.model(Speaker.ASSISTANT) == name, self.model(Speaker.INNER_VOICE) == name
        return replace(
            self.terms,
            profile=profile if of_agent else self.terms.profile,
            voice_profile=profile if of_voice else self.terms.voice_profile,
        )

    def decided_terms(self) -> Terms:
        """What the turn runs with, and what is known by now of models of which nothing was."""
        assert self.terms, "a turn has begun"
        return replace(
            self.terms,
            profile=self.terms.profile or self.known(self.model(Speaker.ASSISTANT)),
            voice_profile=self.terms.voice_profile or self.known(self.model(Speaker.INNER_VOICE)),
        )

    def admit(self, due: Sequence[Interrupt]) -> Portion:
        """How many of the interrupts that are due go into the next request."""
        answered = takewhile(lambda row: row.type not in REPLY_TYPES, reversed(self.rows))
        unanswered = [row.content for row in answered if isinstance(row.content, Interrupt)]
        return self.window.portion(due, unanswered, self.frame_tag)

    @property
    def voice_has_spoken(self) -> bool:
        """Whether the open turn has its user row."""
        return self.place.round > 0 or any(
            row.type is MessageType.USER and row.turn == self.place.turn for row in self.rows
        )

    @property
    def next_round(self) -> int:
        """The round begun last, unless it has its reply, or the summary that stands for it."""
        begun = self.place.round
        if not begun:
            return 1
        replied = any(
            (row.type in REPLY_TYPES or row.type is MessageType.SUMMARY)
            and (row.turn, row.round) == (self.place.turn, begun)
            for row in reversed(self.rows)
        )
        return begun + 1 if replied else begun

    @property
    def open_calls(self) -> list[ToolCall]:
        """The calls of the last reply that have no response, in order, without the wait."""
        return [call for call, deadline in self._open_calls() if deadline is None]

    @property
    def wait(self) -> tuple[ToolCall, datetime] | None:
        """The call by which the agent waits, while it does, and until when."""
        return next(((call, deadline) for call, deadline in self._open_calls() if deadline), None)

    def _open_calls(self) -> Iterator[tuple[ToolCall, datetime | None]]:
        for row in conversation.open_calls(self.rows):
            assert isinstance(row.content, ToolCall)
            yield row.content, row.deadline

    @property
    def context_used(self) -> int:
        """How many tokens the next request would have, without what is delivered before it."""
        if not self.context_tokens:
            specs = self.terms.tool_specs_json if self.terms else ""
            return self.window.count(size(json.dumps(self.messages(), ensure_ascii=False) + specs))
        newer = takewhile(lambda row: row.type not in REPLY_TYPES, reversed(self.rows))
        return self.context_tokens + sum(
            self.window.count(size(conversation.words(row, self.frame_tag))) for row in newer
        )

    def messages(self) -> list[JsonObject]:
        return self.messages_of(self.rows)

    def messages_of(self, rows: Iterable[Message]) -> list[JsonObject]:
        """The agent's conversation, as if there were only these rows."""
        prompt = self.terms.system_prompt if self.terms else ""
        return conversation.agent_messages(self.profile, prompt, self.frame_tag, rows)

    def enter(self, point: SafePoint) -> None:
        """Go on from a safe point with what was delivered there."""
        self.turn_open, self.place = True, point.place
        self.revision, self.interrupted = point.revision, point.interrupted
        if point.terms:
            self._run_with(point.terms)
        self.append(point.rows)
        self.unseen.extend(row.message_id for row in point.rows if row.type is MessageType.SYSTEM)

    def append(self, rows: Iterable[Message]) -> None:
        self.rows.extend(rows)
        if self.rows:
            self.next_position = max(self.next_position, self.rows[-1].position + 1)

    def place_again(self, terms: Terms) -> None:
        """Go on with these terms: what no model has seen is placed as what comes."""
        self._run_with(terms)
        unseen = set(self.unseen)
        self.rows = [
            placed(row, self.profile.placement) if row.message_id in unseen else row for row in self.rows
        ]

    def _run_with(self, terms: Terms) -> None:
        self.terms, self.terms_outdated, self.offered = terms, False, _tool_specs(terms)

    def show_less(self, shortened: Iterable[Interrupt]) -> None:
        """Go on with these interrupts as they are shown now."""
        shown: dict[MessageId, Content] = {one.interrupt_id: one for one in shortened}
        self.rows = [replace(row, content=shown.get(row.message_id, row.content)) for row in self.rows]

    def compact(self, summary: Message, count: int, terms: Terms) -> None:
        """Let a summary stand for the first so many rows."""
        self.rows = [summary, *self.rows[count:]]
        self.next_position, self.terms, self.context_tokens = summary.position + 1, terms, 0


def _stored(specs: Iterable[ToolSpec], tag: str) -> str:
    """As the model is told of them, who are not all of our making."""
    fields: list[JsonObject] = [
        {"name": spec.name, "description": spec.description, "parameters": spec.parameters} for spec in specs
    ]
    return json.dumps(harmless_json(fields, tag))


def _tool_specs(terms: Terms | None) -> tuple[ToolSpec, ...]:
    return tuple(ToolSpec(**spec) for spec in json.loads(terms.tool_specs_json)) if terms else ()
