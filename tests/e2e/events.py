"""Reads what a stream has brought."""

from collections.abc import Iterable, Sequence
from typing import Any

from spark.agent.v1.agent_service_pb2 import StreamTranscriptResponse
from spark.agent.v1.event_pb2 import Event
from spark.agent.v1.message_pb2 import Message

Responses = Sequence[StreamTranscriptResponse]


def facts(responses: Responses) -> list[Event]:
    """The events with a revision."""
    return [event for response in responses for event in response.events if event.revision]


def deltas(responses: Responses) -> list[Event]:
    return [event for response in responses for event in response.events if not event.revision]


def last_revision(responses: Responses) -> int:
    return max((response.last_revision for response in responses), default=0)


def kind(event: Event) -> str:
    return event.WhichOneof("event")


def of_kind(events: Iterable[Event], name: str) -> list[Any]:
    """What happened in the events of a kind, in order."""
    return [getattr(event, name) for event in events if kind(event) == name]


def has(name: str, count: int = 1) -> Any:
    """The condition that so many events of a kind have come."""
    return lambda responses: len(of_kind(facts(responses), name)) >= count


def rows(events: Iterable[Event]) -> list[Message]:
    """The rows of the transcript, interrupts left out."""
    return [appended.message for appended in of_kind(events, "message_appended")]


def of_interrupt(events: Iterable[Event], interrupt_id: str) -> list[str]:
    """The kinds of the events about an interrupt, in order."""
    return [
        kind(event)
        for event in events
        if kind(event).startswith("interrupt_")
        and getattr(event, kind(event)).interrupt.interrupt_id == interrupt_id
    ]


def unanswered_calls(events: Iterable[Event]) -> set[str]:
    """The tool calls that have no response."""
    found = rows(events)
    called = {f"{row.turn}.{row.round}.{row.tool_call.call_id}" for row in found if row.HasField("tool_call")}
    answered = {
        f"{row.turn}.{row.round}.{row.tool_response.call_id}"
        for row in found
        if row.HasField("tool_response")
    }
    return called - answered


def in_bytes(events: Iterable[Event]) -> list[bytes]:
    return [event.SerializeToString(deterministic=True) for event in events]
