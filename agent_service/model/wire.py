"""The chat completions API as it is on the wire: requests out, streamed events in. No I/O."""

import json
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from agent_service.domain import Usage, storable
from agent_service.model.protocol import Chunk, Request, ToolSpec
from agent_service.model.tool_calls import CallPart

# No server counts further. What says more, or less than nothing, is no count.
MAX_TOKENS = 10**9

_BUSY_STATUS = frozenset({408, 409, 425, 429})
_NOT_IMPLEMENTED = 501


@dataclass(frozen=True, slots=True)
class _Function:
    name: str | None = None
    # A string with JSON by the API; some servers send what it would say.
    arguments: object = None


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
class _Event:
    choices: tuple[_Choice, ...] | None = None
    usage: object = None


_Tokens = Annotated[int, Field(ge=0, le=MAX_TOKENS)]


@dataclass(frozen=True, slots=True)
class _PromptDetails:
    cached_tokens: _Tokens | None = None


@dataclass(frozen=True, slots=True)
class _Usage:
    prompt_tokens: _Tokens = 0
    completion_tokens: _Tokens = 0
    prompt_tokens_details: _PromptDetails | None = None


@dataclass(frozen=True, slots=True)
class _Offered:
    id: str


@dataclass(frozen=True, slots=True)
class _Offer:
    data: tuple[_Offered, ...]


# Servers differ in what they leave out. Checking what is read here costs 2 µs an event; the objects of the
# client library, which it builds without a check, cost 70.
_EVENT = TypeAdapter(_Event)
_USAGE = TypeAdapter(_Usage)
_OFFER = TypeAdapter(_Offer)


class ServerFailure(Exception):
    """The server says, where a reply was due, that it failed. The body is as it sent it."""

    def __init__(self, body: object) -> None:
        super().__init__("the model server failed")
        self.body = body


@dataclass(frozen=True, slots=True)
class Event:
    """The chunk is without tool calls, whose parts are still to be sorted."""

    chunk: Chunk
    calls: tuple[CallPart, ...]
    finish_reason: str | None


def body(model: str, request: Request) -> dict[str, object]:
    """The body of a streaming request."""
    fields: dict[str, object] = {"stream": True, "stream_options": {"include_usage": True}}
    if request.max_tokens:
        fields["max_tokens"] = request.max_tokens
    return conversation(model, request) | fields


def conversation(model: str, request: Request) -> dict[str, object]:
    """What a prompt is made of."""
    fields: dict[str, object] = {"model": model, "messages": request.messages}
    # Some servers refuse an empty list.
    if request.tools:
        fields["tools"] = [_tool(tool) for tool in request.tools]
    return fields


def read_event(data: object) -> Event:
    """An event of the stream. Raises ServerFailure, and ValueError where it is none."""
    raise_failure(data)
    event = _EVENT.validate_python(data)
    choice = event.choices[0] if event.choices else _Choice()
    delta = choice.delta or _Delta()
    chunk = Chunk(
        text=_storable(delta.content),
        reasoning=_storable(delta.reasoning_content or delta.reasoning),
        usage=_counted(event.usage) if event.usage else None,
        begun=bool(event.choices),
    )
    return Event(chunk, tuple(_part(call) for call in delta.tool_calls or ()), choice.finish_reason)


def raise_failure(data: object) -> None:
    """Raises ServerFailure if this is one, as an event or as a whole body."""
    match data:
        case {"error": body} if body:
            raise ServerFailure(body)
        case {"object": "error"}:
            raise ServerFailure(data)


def read_models(data: object) -> list[str]:
    """The names in the answer to GET /models. Raises pydantic.ValidationError."""
    return [_storable(offered.id) for offered in _OFFER.validate_python(data).data]


def is_busy(status: int) -> bool:
    """Whether a server that answers with this status may answer otherwise later."""
    return status in _BUSY_STATUS or (status >= 500 and status != _NOT_IMPLEMENTED)


def _storable(text: str | None) -> str:
    """The text with U+FFFD for what cannot be stored."""
    return storable(text or "")


def _tool(tool: ToolSpec) -> dict[str, object]:
    return {
        "type": "function",
        "function": {"name": tool.name, "description": tool.description, "parameters": tool.parameters},
    }


def _part(call: _Call) -> CallPart:
    function = call.function or _Function()
    arguments = function.arguments
    if not isinstance(arguments, str | None):
        arguments = json.dumps(arguments, ensure_ascii=False)
    return CallPart(call.index, _storable(call.id), _storable(function.name), _storable(arguments))


def _counted(usage: object) -> Usage | None:
    """The figures, or None if there is anything among them that is none."""
    try:
        counted = _USAGE.validate_python(usage)
    except ValidationError:
        return None
    details = counted.prompt_tokens_details or _PromptDetails()
    return Usage(counted.prompt_tokens, details.cached_tokens or 0, counted.completion_tokens)
