"""Finds the rows of the database in what a model was sent.

Nothing of the product is used here. Every row says something that no other one does: a mark such as [#7].
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from agent_service.domain import Json, JsonObject
from tests.loop.schedules.evidence import Asked, Asker, Evidence, MessageRow

REPLIES = ("assistant", "tool_call")
# An inner voice that has nothing to say says this without a mark.
_MARK = re.compile(r"\[#\d+\]|Continue\.")

# What a row says: its kind, and its marks or the id of its call.
Said = tuple[str, tuple[str, ...]]


def marks(text: object) -> tuple[str, ...]:
    return tuple(_MARK.findall(str(text)))


def asked_by(evidence: Evidence, *askers: Asker) -> list[Asked]:
    return [asked for asked in evidence.witness.asked if asked.by in askers]


# ---- requests


def shown(evidence: Evidence, asked: Asked) -> list[tuple[MessageRow, str]]:
    """The interrupts that a request shows, each with its frame."""
    frames = [frame for message in asked.messages[1:] for frame in _frames(evidence, message["content"])]
    return [(_interrupt(evidence, frame), frame) for frame in frames]


def call_ids(message: JsonObject) -> list[str]:
    calls = message.get("tool_calls", [])
    assert isinstance(calls, list)
    return [str(call["id"]) for call in calls]


def said_in(evidence: Evidence, asked: Asked) -> list[Said]:
    """What a request says, row by row. Interrupts are found wherever they were placed."""
    return [said for message in asked.messages[1:] for said in _said_in(evidence, message)]


def _said_in(evidence: Evidence, message: JsonObject) -> Iterator[Said]:
    role, (words, *rest) = str(message["role"]), _parts(evidence, message["content"])
    if role == "tool":
        yield "tool_response", (str(message["tool_call_id"]), *marks(words))
        words = ""
    for part in (words, *rest):
        if part.startswith("<interrupt-"):
            yield "system", marks(part)
        else:
            yield from ((role, (mark,)) for mark in marks(part))
    yield from (("tool_call", (call_id,)) for call_id in call_ids(message))


def _parts(evidence: Evidence, content: Json) -> list[str]:
    """What is said, and the frames between it: every other part is one."""
    tag = evidence.session.frame_tag
    return re.split(rf"(<interrupt-{tag}>\n.*?\n</interrupt-{tag}>)", str(content), flags=re.DOTALL)


def _frames(evidence: Evidence, content: Json) -> list[str]:
    return _parts(evidence, content)[1::2]


def _interrupt(evidence: Evidence, frame: str) -> MessageRow:
    return next(row for row in evidence.interrupts if marks(row.text) == marks(frame))


# ---- rows


def visible(evidence: Evidence, next_position: int) -> list[MessageRow]:
    """The rows that a request is made of when the next position is this one: the newest summary, and what it
    does not stand for."""
    rows = [row for row in evidence.transcript if row.place < next_position]
    summaries = [row for row in rows if row.type == "summary"][-1:]
    covered = max((row.covers_through_position for row in summaries), default=0)
    return [*summaries, *(row for row in rows if row.place > covered and row.type != "summary")]


def said_by(rows: Sequence[MessageRow]) -> list[Said]:
    """What rows say as the agent is shown them: responses in the order of their calls, summaries as a user's
    words."""
    calls = {(row.turn, row.round, row.call_id): row.place for row in rows if row.type == "tool_call"}
    said: list[Said] = []
    for kind, group in groupby(rows, lambda row: row.type):
        match kind:
            case "tool_call":
                said += [(kind, (str(row.call_id),)) for row in group]
            case "tool_response":
                ordered = sorted(group, key=lambda row: calls[row.turn, row.round, row.call_id])
                said += [(kind, (str(row.call_id), *marks(row.text))) for row in ordered]
            case "system":
                said += [(kind, marks(row.text)) for row in group]
            case _:
                role = "assistant" if kind == "assistant" else "user"
                said += [(role, (mark,)) for row in group for mark in marks(row.text)]
    return said


@dataclass(frozen=True)
class SafePoint:
    """The revisions of a transaction that delivers."""

    first: int
    last: int
    # It also delivers what waits for the next turn.
    of_turn: bool

    def has(self, revision: int | None) -> bool:
        return revision is not None and self.first <= revision <= self.last


def safe_points(evidence: Evidence) -> Iterator[SafePoint]:
    for _, transaction in groupby(evidence.events, lambda event: event.create_time):
        events = list(transaction)
        kinds = {event.type for event in events}
        if kinds & {"turn_started", "round_started", "interrupt_delivered"}:
            yield SafePoint(events[0].revision, events[-1].revision, "round_started" not in kinds)


def ended_from(evidence: Evidence) -> int:
    """The first revision of the transaction that ended the session, or one that has not come yet."""
    if evidence.session.state != "ended":
        return evidence.session.revision + 1
    time = evidence.events[-1].create_time
    return min(event.revision for event in evidence.events if event.create_time == time)
