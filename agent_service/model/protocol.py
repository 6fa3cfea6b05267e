"""What the loop needs of a model: a stream of chunks for a request, and the reply they add up to."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from agent_service.domain import JsonObject, Placement, RoundFailure, ToolCall, Usage, new_id

# The system prompt of every inner voice request holds this, which tells it from a request of the agent.
INNER_VOICE_MARK = "You are the inner voice"
# A compaction request is the agent's conversation and one more user message, which begins with this. Where
# servers take no such message after a tool's response, it stands at the end of that.
SUMMARY_MARK = "Write a summary of the work so far"
# What a call is called that a model gave no name.
UNNAMED = "unnamed"


# What servers answer to a request that they, or a model's chat template, can make nothing of.
_OF_THE_REQUEST = frozenset({400, 422, 500})


class ModelError(Exception):
    """The request came to nothing. The text is for people: it never holds a secret or a traceback."""

    def __init__(
        self,
        reason: RoundFailure,
        detail: str,
        retry_after_seconds: float | None = None,
        status: int | None = None,
    ) -> None:
        """The status is that of the server's answer, if it gave one."""
        super().__init__(detail)
        self.reason, self.detail = reason, detail
        self.retry_after_seconds, self.status = retry_after_seconds, status
        # Nothing, unless whoever asked knows of a reply that had begun.
        self.cost = Usage()

    @property
    def blames_request(self) -> bool:
        """Whether it may be for the messages that the request was refused. A template that fails is told like
        a server that fails: only the same request without something shows what was in the way."""
        return self.reason is not RoundFailure.CONTEXT_OVERFLOW and self.status in _OF_THE_REQUEST


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool as a model is told of it; `parameters` is a JSON schema of an object."""

    name: str
    description: str
    parameters: JsonObject


@dataclass(frozen=True, slots=True)
class Request:
    """Messages and tools in the form of the chat completions API, in order. A reply that is cut after so many
    tokens, where a number is given, is whole."""

    messages: Sequence[JsonObject]
    tools: Sequence[ToolSpec] = ()
    max_tokens: int | None = None


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


@dataclass(frozen=True, slots=True)
class Served:
    """Which model of which server, and where interrupts go in its requests if that is not to be found out."""

    server: str
    model: str
    placement: Placement | None = None


class Model(Protocol):
    @property
    def served(self) -> Served: ...

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

    async def render(self, request: Request) -> str | None:
        """The prompt that the server makes of a request, without answering it; None where it has no way to
        show that. Raises ModelError as a stream would."""
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
                    # Nine letters and figures: some servers take no other ids back.
                    call_id = new_id().hex[-9:]
                # Servers refuse a conversation in which a call has no name.
                calls[call_id] = ToolCall(call_id, name or UNNAMED, arguments or "{}")
        return Reply("".join(self.text), "".join(self.reasoning), tuple(calls.values()), self.usage)
