"""What the loop needs of a model: a stream of chunks for a request, and the reply they add up to."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from agent_service.domain import JsonObject, RoundFailure, ToolCall, Usage, new_id

# The system prompt of every inner voice request holds this, which tells it from a request of the agent.
INNER_VOICE_MARK = "You are the inner voice"


class ModelError(Exception):
    """The request came to nothing. The text is for people: it never holds a secret or a traceback."""

    def __init__(self, reason: RoundFailure, detail: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(detail)
        self.reason, self.detail, self.retry_after_seconds = reason, detail, retry_after_seconds


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool as a model is told of it; `parameters` is a JSON schema of an object."""

    name: str
    description: str
    parameters: JsonObject


@dataclass(frozen=True, slots=True)
class Request:
    """Messages and tools in the form of the chat completions API, in order."""

    messages: Sequence[JsonObject]
    tools: Sequence[ToolSpec] = ()


@dataclass(frozen=True, slots=True)
class ToolCallPiece:
    """A part of a tool call. Pieces with the same index belong together; strings are appended."""

    index: int
    call_id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a reply. `begun` is false for what says nothing of the reply, such as bare usage figures:
    the first chunk with `begun` is the fact that the model has read the request. Of `usage` the last counts;
    its `model_requests` is 0: requests are counted by whoever makes them."""

    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCallPiece, ...] = ()
    usage: Usage | None = None
    begun: bool = True


class Model(Protocol):
    def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """Ask, and yield the reply as it comes. A stream that ends without an error is a whole reply.

        Closing it (`aclose`) ends the request at the server. Raises ModelError, also in the middle.
        """
        ...


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole reply. Every call has an id, unique within the reply."""

    text: str
    reasoning: str
    tool_calls: tuple[ToolCall, ...]
    usage: Usage


@dataclass(slots=True)
class ReplyFold:
    """Adds chunks up to a reply."""

    text: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    calls: dict[int, ToolCallPiece] = field(default_factory=dict)
    usage: Usage = field(default_factory=Usage)

    def add(self, chunk: Chunk) -> None:
        self.text.append(chunk.text)
        self.reasoning.append(chunk.reasoning)
        for piece in chunk.tool_calls:
            so_far = self.calls.get(piece.index, ToolCallPiece(piece.index))
            self.calls[piece.index] = ToolCallPiece(
                piece.index,
                so_far.call_id or piece.call_id,
                so_far.name + piece.name,
                so_far.arguments + piece.arguments,
            )
        if chunk.usage:
            self.usage = chunk.usage

    def reply(self) -> Reply:
        calls: dict[str, ToolCall] = {}
        for _, piece in sorted(self.calls.items()):
            call_id = (
                piece.call_id if piece.call_id and piece.call_id not in calls else f"call_{new_id().hex}"
            )
            calls[call_id] = ToolCall(call_id, piece.name, piece.arguments or "{}")
        return Reply("".join(self.text), "".join(self.reasoning), tuple(calls.values()), self.usage)
