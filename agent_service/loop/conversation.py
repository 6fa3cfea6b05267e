"""Rows to the messages of a request, as the agent and as its inner voice see them. Pure.

A rebuild from the same rows gives the same messages byte for byte, and more rows only add at the end.
"""

from collections.abc import Iterable, Mapping, Sequence
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
from agent_service.loop.frame import frame, harmless, without_tag
from agent_service.loop.placement import extend, place

# Of a tool's answer the inner voice sees the beginning.
MAX_VOICE_CHARACTERS = 2000
NO_WORDS = "…"


def agent_messages(
    system_prompt: str, tag: str, rows: Iterable[Message], opening: str = "", closing: str = ""
) -> list[JsonObject]:
    """The conversation as the agent has it: its own words are the assistant's. The user may say something
    before and after it."""
    messages: list[dict[str, Json]] = [{"role": "system", "content": system_prompt}]
    if opening:
        extend(messages, "user", opening)
    for row in rows:
        match _untagged(row.content, tag):
            case Interrupt() as interrupt:
                place(messages, interrupt.placement, frame(interrupt, tag))
            case ToolCall() as call:
                if messages[-1]["role"] != "assistant":
                    messages.append({"role": "assistant", "content": ""})
                _add_call(messages[-1], call)
            case ToolResponse() as response:
                _add_response(messages, response)
            case Text(text) if row.type is MessageType.ASSISTANT:
                messages.append({"role": "assistant", "content": text})
                if row.reasoning:
                    messages[-1]["reasoning_content"] = without_tag(row.reasoning, tag)
            case Text(text):
                extend(messages, "user", text)
            case unreachable:
                assert_never(unreachable)
    if closing:
        extend(messages, "user", closing)
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


def words(row: Message, tag: str) -> str:
    """What a row adds to a request."""
    match row.content:
        case Interrupt() as interrupt:
            return frame(interrupt, tag)
        case ToolCall(_, name, arguments):
            return f"{name} {arguments}"
        case ToolResponse(_, _, content):
            return content
        case Text(text):
            return row.reasoning + text
        case unreachable:
            assert_never(unreachable)


def open_calls(rows: Sequence[Message]) -> list[Message]:
    """The calls of the last reply that have no response, in order."""
    calls: dict[str, Message] = {}
    for row in _last_round(rows):
        match row.content:
            case ToolCall(call_id):
                calls[call_id] = row
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
                without_tag(call_id, tag), without_tag(name, tag), harmless(said, tag), is_error
            )
        case unreachable:
            assert_never(unreachable)


def _add_call(message: dict[str, Json], call: ToolCall) -> None:
    function: JsonObject = {"name": call.name, "arguments": _sendable(call)}
    calls = message.setdefault("tool_calls", [])
    assert isinstance(calls, list)
    calls.append({"id": call.call_id, "type": "function", "function": function})


def _add_response(messages: list[dict[str, Json]], response: ToolResponse) -> None:
    """Responses were stored as the tools were done, and are shown in the order of their calls, which is all
    that some chat templates pair them by."""
    place = len(messages)
    while messages[place - 1]["role"] == "tool":
        place -= 1
    asked = messages[place - 1].get("tool_calls", ())
    assert isinstance(asked, Sequence)
    order = {call["id"]: n for n, call in enumerate(asked) if isinstance(call, Mapping)}
    while place < len(messages) and order[messages[place]["tool_call_id"]] < order[response.call_id]:
        place += 1
    message: dict[str, Json] = {
        "role": "tool",
        "tool_call_id": response.call_id,
        "content": response.content,
    }
    messages.insert(place, message)


def _sendable(call: ToolCall) -> str:
    """The arguments as the model wrote them, unless they would make servers refuse the whole request."""
    try:
        call.arguments()
    except ValueError:
        return "{}"
    return call.arguments_json
