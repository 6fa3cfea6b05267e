"""A session in its holder's hands: the rows as the database has them, and where the turn stands."""

import json
from collections.abc import Iterable
from dataclasses import dataclass

from agent_service.domain import (
    Interrupt,
    JsonObject,
    Lease,
    Message,
    MessageId,
    MessageType,
    Place,
    Session,
    ToolCall,
)
from agent_service.loop import conversation
from agent_service.loop.prompt import system_prompt
from agent_service.model import ToolSpec
from agent_service.store.safe_points import Frozen, SafePoint
from agent_service.store.transcript import Snapshot
from agent_service.tools import Toolbox


@dataclass(slots=True)
class Work:
    """Changes only after a commit has said so: what is here is what a rebuild would give."""

    lease: Lease
    session: Session
    system_prompt: str
    tools: tuple[ToolSpec, ...]
    frame_tag: str
    turn_open: bool
    place: Place
    next_position: int
    rows: list[Message]
    # Delivered, and in no request yet that a model has begun to answer.
    unseen: list[MessageId]

    @classmethod
    def of(cls, lease: Lease, snapshot: Snapshot, toolbox: Toolbox) -> "Work":
        """What the model was told at the start stays; before the first turn it is decided here."""
        session, prompt = snapshot.session, snapshot.system_prompt
        return cls(
            lease,
            session,
            system_prompt(session.goal, snapshot.frame_tag) if prompt is None else prompt,
            toolbox.specs(session.config.tools)
            if prompt is None
            else _tool_specs(snapshot.tool_specs_json or "[]"),
            snapshot.frame_tag,
            snapshot.turn_open,
            snapshot.place,
            snapshot.next_position,
            list(snapshot.rows),
            [
                row.message_id
                for row in snapshot.rows
                if isinstance(row.content, Interrupt) and row.content.seen is None
            ],
        )

    @property
    def frozen(self) -> Frozen:
        specs: list[JsonObject] = [
            {"name": t.name, "description": t.description, "parameters": t.parameters} for t in self.tools
        ]
        return Frozen(self.system_prompt, json.dumps(specs))

    @property
    def voice_has_spoken(self) -> bool:
        """Whether the open turn has its user row."""
        return self.place.round > 0 or any(
            row.type is MessageType.USER and row.turn == self.place.turn for row in self.rows
        )

    @property
    def next_round(self) -> int:
        """The round begun last, unless it has its reply."""
        begun = self.place.round
        replied = any(
            row.type in (MessageType.ASSISTANT, MessageType.TOOL_CALL)
            and (row.turn, row.round) == (self.place.turn, begun)
            for row in reversed(self.rows)
        )
        return begun + 1 if replied else max(begun, 1)

    @property
    def open_calls(self) -> list[ToolCall]:
        return conversation.open_calls(self.rows)

    def messages(self) -> list[JsonObject]:
        return conversation.agent_messages(self.system_prompt, self.frame_tag, self.rows)

    def enter(self, point: SafePoint) -> None:
        """Go on from a safe point with what was delivered there."""
        self.turn_open, self.place = True, point.place
        self.append(_delivered(interrupt) for interrupt in point.delivered)
        self.unseen.extend(interrupt.interrupt_id for interrupt in point.delivered)

    def append(self, rows: Iterable[Message]) -> None:
        self.rows.extend(rows)
        if self.rows:
            self.next_position = max(self.next_position, self.rows[-1].position + 1)


def _delivered(interrupt: Interrupt) -> Message:
    assert interrupt.delivered
    return Message(
        interrupt.interrupt_id,
        interrupt.session_id,
        interrupt.position,
        MessageType.SYSTEM,
        interrupt,
        interrupt.turn,
        interrupt.round,
        interrupt.posted.time,
        interrupt.source,
    )


def _tool_specs(stored_json: str) -> tuple[ToolSpec, ...]:
    return tuple(ToolSpec(**spec) for spec in json.loads(stored_json))
