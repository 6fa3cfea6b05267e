"""A reply as it comes from a server: read, kept within its limits, and judged at its end. No I/O."""

from dataclasses import replace

from agent_service.domain import RoundFailure
from agent_service.model import wire
from agent_service.model.protocol import Chunk, ModelError
from agent_service.model.tool_calls import ToolCalls

_CUT_SHORT = frozenset({"length", "content_filter"})
# A reply that is cut at its length with so much of the window in use was cut because the window was full.
_FULL = 0.9
_GIVEN_UP = frozenset({"abort", "error"})


class Reading:
    """One reply."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes, self._bytes = max_bytes, 0
        self._calls = ToolCalls()
        self._finish_reason = ""
        self._used_tokens = 0
        self._says_something = False

    @property
    def is_finished(self) -> bool:
        """Whether the server has said that this is all; only usage figures come after that."""
        return bool(self._finish_reason)

    @property
    def is_cut(self) -> bool:
        """Whether the server has cut the reply at its length."""
        return self._finish_reason == "length"

    def read(self, data: object) -> Chunk:
        """The next event. Raises ModelError, wire.ServerFailure, and ValueError where it is no event."""
        event = wire.read_event(data)
        self._finish_reason = event.finish_reason or self._finish_reason
        chunk = event.chunk
        if event.calls:
            chunk = replace(chunk, tool_calls=self._calls.pieces(event.calls))
        if chunk.usage:
            self._used_tokens = chunk.usage.input_tokens + chunk.usage.output_tokens
        said = _bytes(chunk)
        self._says_something |= said > 0
        # An event without words counts too, so that a reply of nothing else comes to an end.
        self._bytes += max(said, 1)
        if self._bytes > self._max_bytes:
            limit = f"{self._max_bytes} bytes, the most that SPARK_MAX_REPLY_BYTES allows"
            raise ModelError(RoundFailure.BAD_REPLY, f"the reply is longer than {limit}")
        return chunk

    def end(self, window_tokens: int | None) -> None:
        """Raises ModelError unless the reply is whole. Where the window or what is used of it is not known, a
        reply that was cut at its length is taken to have filled it: the request asked for no length."""
        reason = self._finish_reason
        if not reason or reason in _GIVEN_UP:
            detail = "the model server broke off before the end of the reply"
            raise ModelError(RoundFailure.MODEL_UNAVAILABLE, detail)
        if self.is_cut and (not self._used_tokens or self._used_tokens >= (window_tokens or 0) * _FULL):
            detail = "the context window was full before the end of the reply (finish_reason length)"
            raise ModelError(RoundFailure.CONTEXT_OVERFLOW, detail)
        if reason in _CUT_SHORT:
            detail = f"the model server cut the reply short (finish_reason {reason})"
            raise ModelError(RoundFailure.BAD_REPLY, detail)
        if reason == "tool_calls" and not self._says_something:
            detail = "the model server announced tool calls (finish_reason tool_calls) and sent none"
            raise ModelError(RoundFailure.BAD_REPLY, detail)


def _bytes(chunk: Chunk) -> int:
    calls = (part for call in chunk.tool_calls for part in (call.call_id, call.name, call.arguments))
    return sum(len(text.encode()) for text in (chunk.text, chunk.reasoning, *calls))
