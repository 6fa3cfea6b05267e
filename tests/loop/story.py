"""Transcripts as the holder of a session commits them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from agent_service.domain import (
    INNER_VOICE_SOURCE,
    Content,
    Delivery,
    Fact,
    Interrupt,
    Message,
    MessageId,
    MessageType,
    Notification,
    Nudge,
    SessionId,
    Text,
    ToolCall,
    ToolResponse,
    new_id,
)

TAG = "5eed1e55"
SESSION = SessionId(new_id())
NOW = datetime(2030, 1, 1, tzinfo=UTC)


def interrupt(body: Nudge | Notification, source: str = "operator") -> Interrupt:
    """An interrupt on its way."""
    return Interrupt(
        MessageId(new_id()), SESSION, source, "", body, Delivery.NEXT_ROUND, "", None, Fact(NOW, 2)
    )


@dataclass
class Story:
    """What happened so far: each commit with its rows."""

    commits: list[list[Message]] = field(default_factory=list)
    turn: int = 0
    round: int = 0

    @property
    def rows(self) -> list[Message]:
        return [row for commit in self.commits for row in commit]

    def begin_turn(self, *interrupts: Interrupt) -> None:
        self.turn, self.round = self.turn + 1, 0
        self.deliver(*interrupts)

    def begin_round(self, *interrupts: Interrupt) -> None:
        self.round += 1
        self.deliver(*interrupts)

    def deliver(self, *interrupts: Interrupt) -> None:
        """At this safe point, or at the same one when the round is tried again."""
        rows = [(MessageType.SYSTEM, interrupt, interrupt.source, "") for interrupt in interrupts]
        self._commit(rows)

    def user(self, text: str) -> None:
        self._commit([(MessageType.USER, Text(text), INNER_VOICE_SOURCE, "")])

    def reply(self, text: str = "", *calls: ToolCall, reasoning: str = "") -> None:
        words = [(MessageType.ASSISTANT, Text(text), "", reasoning)] if text or reasoning or not calls else []
        self._commit([*words, *((MessageType.TOOL_CALL, call, "", "") for call in calls)])

    def respond(self, call_id: str, content: str, name: str = "now", is_error: bool = False) -> None:
        self._commit([(MessageType.TOOL_RESPONSE, ToolResponse(call_id, name, content, is_error), "", "")])

    def _commit(self, rows: Sequence[tuple[MessageType, Content, str, str]]) -> None:
        first = len(self.rows) + 1
        self.commits.append(
            [
                Message(
                    MessageId(new_id()),
                    SESSION,
                    first + n,
                    kind,
                    content,
                    self.turn,
                    self.round,
                    NOW,
                    source,
                    reasoning,
                )
                for n, (kind, content, source, reasoning) in enumerate(rows)
            ]
        )
