"""Rows to the messages of a request, as the agent and as its inner voice see them. Pure.

A rebuild from the same rows gives the same messages byte for byte, and more rows only add at the end.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import takewhile
from typing import assert_never

from agent_service.domain import (
    Content,
    Interrupt,
    Json,
    JsonObject,
    Message,
    MessageType,
    Placement,
    Profile,
    Text,
    ToolCall,
    ToolResponse,
)
from agent_service.loop.frame import frame, harmless, harmless_json, own_words
from agent_service.loop.placement import extend, place

# Of a tool's answer the inner voice sees the beginning.
MAX_VOICE_CHARACTERS = 2000
NO_WORDS = "…"
# What servers take as the name of a tool.
MAX_NAME_CHARACTERS = 64
_NOT_IN_NAMES = re.compile("[^a-zA-Z0-9_-]")


def agent_messages(
    profile: Profile,
    system_prompt: str,
    tag: str,
    rows: Iterable[Message],
    opening: str = "",
    closing: str = "",
) -> list[JsonObject]:
    """The conversation as the agent has it: its own words are the assistant's. The user may say something
    before and after it; after a tool's response that is a part of it, if interrupts are."""
    messages = [_prompt(profile, system_prompt)]
    if opening:
        extend(messages, "user", opening)
    if profile.placement is Placement.TEXT:
        _tell(messages, tag, rows)
    else:
        _show(messages, tag, rows)
        _fill(messages)
        if profile.calls_alone:
            messages = list(_one_by_one(messages))
    if closing:
        in_tool = profile.placement is Placement.TOOL
        place(messages, Placement.TOOL if in_tool else Placement.USER, closing)
    return list(messages)


def voice_messages(
    profile: Profile, prompt: str, opening: str, tag: str, rows: Iterable[Message]
) -> list[JsonObject]:
    """The conversation as the inner voice has it: user and assistant are swapped, tools appear as text."""
    messages = [_prompt(profile, prompt)]
    extend(messages, "user", opening)
    for row in rows:
        match _harmless(row, tag):
            case Interrupt() as interrupt:
                place(messages, profile.placement, frame(interrupt, tag))
            case ToolCall(_, name, arguments):
                extend(messages, "user", f"(I call {name} {harmless(arguments, tag)})")
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


def _prompt(profile: Profile, text: str) -> dict[str, Json]:
    return {"role": "system" if profile.system_role else "user", "content": text}


def _show(messages: list[dict[str, Json]], tag: str, rows: Iterable[Message]) -> None:
    """Rows in the roles that they have, each interrupt where it was placed when it was delivered."""
    for row in rows:
        match _harmless(row, tag):
            case Interrupt() as interrupt:
                place(messages, interrupt.placement, frame(interrupt, tag))
            case ToolCall() as call:
                if messages[-1]["role"] != "assistant":
                    messages.append({"role": "assistant", "content": ""})
                _add_call(messages[-1], call, tag)
            case ToolResponse() as response:
                _add_response(messages, response)
            case Text(text) if row.type is MessageType.ASSISTANT:
                messages.append({"role": "assistant", "content": text})
                if row.reasoning:
                    messages[-1]["reasoning_content"] = harmless(row.reasoning, tag)
            case Text(text):
                extend(messages, "user", text)
            case unreachable:
                assert_never(unreachable)


def _fill(messages: Iterable[dict[str, Json]]) -> None:
    """Put a word into replies that have none and no calls either, which some servers refuse."""
    for message in messages:
        if message["role"] == "assistant" and not message["content"] and "tool_calls" not in message:
            message["content"] = NO_WORDS


def _one_by_one(messages: Iterable[dict[str, Json]]) -> Iterator[dict[str, Json]]:
    """Calls in messages of their own, without words, each with its response after it. What was thought is
    thought before the first."""
    calls: list[dict[str, Json]] = []
    for message in messages:
        if isinstance(made := message.get("tool_calls"), list):
            calls = [{"role": "assistant", "content": "", "tool_calls": [call]} for call in made]
            calls[0] = message | calls[0]
        elif message["role"] == "tool":
            yield from (calls.pop(0), message)
        else:
            yield message


def _tell(messages: list[dict[str, Json]], tag: str, rows: Iterable[Message]) -> None:
    """Rows as text, in which user and assistant alternate."""
    for row in rows:
        match _harmless(row, tag):
            case Interrupt() as interrupt:
                place(messages, Placement.TEXT, frame(interrupt, tag))
            case ToolCall(_, name, arguments):
                extend(messages, "assistant", f"(I called {name} {harmless(arguments, tag)})")
            case ToolResponse(_, name, content):
                extend(messages, "user", f"({name} answered: {content})")
            case Text(text) if row.type is MessageType.ASSISTANT:
                extend(messages, "assistant", text or NO_WORDS)
            case Text(text):
                extend(messages, "user", text)
            case unreachable:
                assert_never(unreachable)


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


def _harmless(row: Message, tag: str) -> Content:
    """What a row says, but for the arguments of a call without what only the service says: the frame of an
    interrupt, and the tokens of the chat template. A model repeats what it was told."""
    match row.content:
        case Interrupt() as interrupt:
            return interrupt
        case Text(text) if row.type is MessageType.ASSISTANT:
            return Text(own_words(text, tag))
        case Text(text):
            return Text(harmless(text, tag))
        case ToolCall(call_id, name, arguments):
            return ToolCall(harmless(call_id, tag), harmless(name, tag), arguments)
        case ToolResponse(call_id, name, said, is_error):
            return ToolResponse(harmless(call_id, tag), harmless(name, tag), harmless(said, tag), is_error)
        case unreachable:
            assert_never(unreachable)


def _add_call(message: dict[str, Json], call: ToolCall, tag: str) -> None:
    # A model may call a tool by a name that no tool has, and no server takes back.
    name = _NOT_IN_NAMES.sub("_", call.name)[:MAX_NAME_CHARACTERS]
    function: JsonObject = {"name": name, "arguments": _sendable(call, tag)}
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


def _sendable(call: ToolCall, tag: str) -> str:
    """The arguments as the model wrote them, unless they would make servers refuse the whole request, or a
    template shows what is in them."""
    try:
        arguments = call.arguments()
        shown = harmless_json(arguments, tag)
    except (ValueError, RecursionError):
        return "{}"
    return call.arguments_json if shown == arguments else json.dumps(shown, ensure_ascii=False)
