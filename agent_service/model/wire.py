"""The chat completions API as it is on the wire: requests out, streamed events in. No I/O."""

import re
from dataclasses import dataclass

from pydantic import TypeAdapter

from agent_service.domain import Usage
from agent_service.model.protocol import Chunk, Request, ToolCallPiece, ToolSpec

# What PostgreSQL cannot store and UTF-8 cannot say.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class _Function:
    name: str | None = None
    arguments: str | None = None


@dataclass(frozen=True, slots=True)
class _Call:
    index: int | None = None
    id: str | None = None
    function: _Function | None = None


@dataclass(frozen=True, slots=True)
class _Delta:
    content: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    tool_calls: tuple[_Call, ...] | None = None


@dataclass(frozen=True, slots=True)
class _Choice:
    delta: _Delta | None = None
    finish_reason: str | None = None


@dataclass(frozen=True, slots=True)
class _PromptDetails:
    cached_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class _Usage:
    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _PromptDetails | None = None


@dataclass(frozen=True, slots=True)
class _Event:
    choices: tuple[_Choice, ...] | None = None
    usage: _Usage | None = None


@dataclass(frozen=True, slots=True)
class _Offered:
    id: str


@dataclass(frozen=True, slots=True)
class _Offer:
    data: tuple[_Offered, ...]


# Servers differ in what they leave out. Checking what is read here costs 2 µs an event; the objects of the
# client library, which it builds without a check, cost 70.
_EVENT = TypeAdapter(_Event)
_OFFER = TypeAdapter(_Offer)


def body(model: str, request: Request) -> dict[str, object]:
    """The body of a streaming request."""
    fields: dict[str, object] = {
        "model": model,
        "messages": request.messages,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    # Some servers refuse an empty list.
    if request.tools:
        fields["tools"] = [_tool(tool) for tool in request.tools]
    return fields


def read_event(data: object) -> tuple[Chunk, str | None]:
    """An event of the stream as a chunk, and its finish reason. Raises pydantic.ValidationError."""
    event = _EVENT.validate_python(data)
    choice = event.choices[0] if event.choices else _Choice()
    delta = choice.delta or _Delta()
    chunk = Chunk(
        text=storable(delta.content),
        reasoning=storable(delta.reasoning_content or delta.reasoning),
        tool_calls=tuple(_piece(call, place) for place, call in enumerate(delta.tool_calls or ())),
        usage=_counted(event.usage) if event.usage else None,
        begun=bool(event.choices),
    )
    return chunk, choice.finish_reason


def read_models(data: object) -> list[str]:
    """The names in the answer to GET /models. Raises pydantic.ValidationError."""
    return [storable(offered.id) for offered in _OFFER.validate_python(data).data]


def storable(text: str | None) -> str:
    """The text with U+FFFD for what cannot be stored."""
    return _UNSTORABLE.sub("\ufffd", text or "")


def _tool(tool: ToolSpec) -> dict[str, object]:
    return {
        "type": "function",
        "function": {"name": tool.name, "description": tool.description, "parameters": tool.parameters},
    }


def _piece(call: _Call, place: int) -> ToolCallPiece:
    function = call.function or _Function()
    return ToolCallPiece(
        place if call.index is None else call.index,
        storable(call.id),
        storable(function.name),
        storable(function.arguments),
    )


def _counted(usage: _Usage) -> Usage:
    details = usage.prompt_tokens_details or _PromptDetails()
    return Usage(usage.prompt_tokens, details.cached_tokens or 0, usage.completion_tokens)
