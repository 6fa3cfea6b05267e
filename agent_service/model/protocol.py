"""What the loop needs of a model: a stream of chunks for a request, and the reply they add up to."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from agent_service.domain import JsonObject, RoundFailure, ToolCall, Usage, new_id

# The system prompt of every inner voice request holds this, which tells it from a request of the agent.
INNER_VOICE_MARK = "You are the inner voice"
# A compaction request is the agent's conversation and one more user message, which begins with this.
SUMMARY_MARK = "Write a summary of the work so far"
# What a call is called that a model gave no name.
UNNAMED = "unnamed"


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
    """A part of a tool call. Pieces with the same index belong together; name and arguments are appended."""

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

    async def context_window(self) -> int | None:
        """How many tokens a request and its reply may have together; None where nobody knows.

        Never raises and never takes long: a server is asked until it has answered once.
        """
        ...


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole reply. Every call has a name, and an id that is unique within the reply."""

    text: str
    reasoning: str
    tool_calls: tuple[ToolCall, ...]
    usage: Usage


@dataclass(slots=True)
class ReplyFold:
    """Adds chunks up to a reply."""

    text: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    calls: dict[int, list[ToolCallPiece]] = field(default_factory=dict)
    usage: Usage = field(default_factory=Usage)

    def add(self, chunk: Chunk) -> None:
        self.text.append(chunk.text)
        self.reasoning.append(chunk.reasoning)
        for piece in chunk.tool_calls:
            self.calls.setdefault(piece.index, []).append(piece)
        if chunk.usage:
            self.usage = chunk.usage

    def reply(self) -> Reply:
        calls: dict[str, ToolCall] = {}
        for _, pieces in sorted(self.calls.items()):
            name = "".join(piece.name for piece in pieces)
            arguments = "".join(piece.arguments for piece in pieces)
            if name or arguments:
                call_id = next((piece.call_id for piece in pieces if piece.call_id), "")
                if not call_id or call_id in calls:
                    call_id = f"call_{new_id().hex}"
                # Servers refuse a conversation in which a call has no name.
                calls[call_id] = ToolCall(call_id, name or UNNAMED, arguments or "{}")
        return Reply("".join(self.text), "".join(self.reasoning), tuple(calls.values()), self.usage)
