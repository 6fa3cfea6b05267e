"""Rows to the messages of a request, as the agent and as its inner voice see them. Pure.

A rebuild from the same rows gives the same messages byte for byte, and more rows only add at the end.
"""

from collections.abc import Iterable, Sequence
from itertools import takewhile
from typing import assert_never

from agent_service.domain import (
    Interrupt,
    Json,
    JsonObject,
    Message,
    MessageType,
    Text,
    ToolCall,
    ToolResponse,
)
from agent_service.loop.frame import frame, without_tag
from agent_service.loop.placement import extend, place

# Of a tool's answer the inner voice sees the beginning.
MAX_VOICE_CHARACTERS = 2000
NO_WORDS = "…"


def agent_messages(system_prompt: str, tag: str, rows: Iterable[Message]) -> list[JsonObject]:
    """The conversation as the agent has it: its own words are the assistant's."""
    messages: list[dict[str, Json]] = [{"role": "system", "content": system_prompt}]
    reply: tuple[int, int] | None = None
    for row in rows:
        match row.content:
            case Interrupt() as interrupt:
                place(messages, interrupt.placement, frame(interrupt, tag))
            case ToolCall() as call:
                if reply != (row.turn, row.round):
                    messages.append({"role": "assistant", "content": ""})
                _add_call(messages[-1], call)
            case ToolResponse(call_id, _, content):
                answer = without_tag(content, tag)
                messages.append({"role": "tool", "tool_call_id": call_id, "content": answer})
            case Text(text) if row.type is MessageType.ASSISTANT:
                messages.append({"role": "assistant", "content": text})
                if row.reasoning:
                    messages[-1]["reasoning_content"] = row.reasoning
            case Text(text):
                extend(messages, "user", text)
            case unreachable:
                assert_never(unreachable)
        of_agent = row.type in (MessageType.ASSISTANT, MessageType.TOOL_CALL)
        reply = (row.turn, row.round) if of_agent else None
    return list(messages)


def voice_messages(prompt: str, opening: str, tag: str, rows: Iterable[Message]) -> list[JsonObject]:
    """The conversation as the inner voice has it: user and assistant are swapped, tools appear as text."""
    messages: list[dict[str, Json]] = [
        {"role": "system", "content": prompt},
        {"role": "user", "content": opening},
    ]
    for row in rows:
        match row.content:
            case Interrupt() as interrupt:
                place(messages, interrupt.placement, frame(interrupt, tag))
            case ToolCall(_, name, arguments):
                extend(messages, "user", without_tag(f"(I call {name} {arguments})", tag))
            case ToolResponse(_, name, content):
                extend(
                    messages, "user", without_tag(f"({name} answers: {content[:MAX_VOICE_CHARACTERS]})", tag)
                )
            case Text(text) if row.type is MessageType.USER:
                extend(messages, "assistant", text)
            case Text(text):
                # Said even if it is nothing: two lines of the inner voice never become one.
                extend(messages, "user", text or NO_WORDS)
            case unreachable:
                assert_never(unreachable)
    return list(messages)


def open_calls(rows: Sequence[Message]) -> list[ToolCall]:
    """The calls of the last reply that have no response, in order."""
    calls: dict[str, ToolCall] = {}
    for row in _last_round(rows):
        match row.content:
            case ToolCall() as call:
                calls[call.call_id] = call
            case ToolResponse(call_id):
                calls.pop(call_id, None)
            case _:
                pass
    return list(calls.values())


def _last_round(rows: Sequence[Message]) -> list[Message]:
    tail = takewhile(lambda row: (row.turn, row.round) == (rows[-1].turn, rows[-1].round), reversed(rows))
    return list(tail)[::-1]


def _add_call(message: dict[str, Json], call: ToolCall) -> None:
    function: JsonObject = {"name": call.name, "arguments": _sendable(call)}
    calls = message.setdefault("tool_calls", [])
    assert isinstance(calls, list)
    calls.append({"id": call.call_id, "type": "function", "function": function})


def _sendable(call: ToolCall) -> str:
    """The arguments as the model wrote them, unless they would make servers refuse the whole request."""
    try:
        call.arguments()
    except ValueError:
        return "{}"
    return call.arguments_json
