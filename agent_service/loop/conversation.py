"""Rows to the messages of a request, as the agent and as its inner voice see them. Pure.

A rebuild from the same rows gives the same messages byte for byte, and more rows only add at the end.
"""

from collections.abc import Iterable, Sequence
from itertools import takewhile
from typing import assert_never

from agent_service.domain import (
    Content,
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
    for row in rows:
        match _untagged(row.content, tag):
            case Interrupt() as interrupt:
                place(messages, interrupt.placement, frame(interrupt, tag))
            case ToolCall() as call:
                if messages[-1]["role"] != "assistant":
                    messages.append({"role": "assistant", "content": ""})
                _add_call(messages[-1], call)
            case ToolResponse(call_id, _, content):
                messages.append({"role": "tool", "tool_call_id": call_id, "content": content})
            case Text(text) if row.type is MessageType.ASSISTANT:
                messages.append({"role": "assistant", "content": text})
                if row.reasoning:
                    messages[-1]["reasoning_content"] = without_tag(row.reasoning, tag)
            case Text(text):
                extend(messages, "user", text)
            case unreachable:
                assert_never(unreachable)
    return list(messages)


def voice_messages(prompt: str, opening: str, tag: str, rows: Iterable[Message]) -> list[JsonObject]:
    """The conversation as the inner voice has it: user and assistant are swapped, tools appear as text."""
    messages: list[dict[str, Json]] = [
        {"role": "system", "content": prompt},
        {"role": "user", "content": opening},
    ]
    for row in rows:
        match _untagged(row.content, tag):
            case Interrupt() as interrupt:
                place(messages, interrupt.placement, frame(interrupt, tag))
            case ToolCall(_, name, arguments):
                extend(messages, "user", f"(I call {name} {arguments})")
            case ToolResponse(_, name, content):
                extend(messages, "user", f"({name} answers: {content[:MAX_VOICE_CHARACTERS]})")
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


def _untagged(content: Content, tag: str) -> Content:
    """What a row says, without the session's tag: only the frame of an interrupt has it."""
    match content:
        case Interrupt():
            return content
        case Text(text):
            return Text(without_tag(text, tag))
        case ToolCall(call_id, name, arguments):
            return ToolCall(without_tag(call_id, tag), without_tag(name, tag), without_tag(arguments, tag))
        case ToolResponse(call_id, name, said, is_error):
            return ToolResponse(
                without_tag(call_id, tag), without_tag(name, tag), without_tag(said, tag), is_error
            )
        case unreachable:
            assert_never(unreachable)


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
