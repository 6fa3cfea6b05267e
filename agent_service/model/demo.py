"""The built-in model: scripted, deterministic, without network, and made to be watched."""

import asyncio
import re
from collections.abc import AsyncGenerator, Iterator

from agent_service.domain import Placement, ToolCall, Usage
from agent_service.model.demo_script import Speech, speak
from agent_service.model.protocol import Chunk, Request, Served, ToolCallPiece

# As long as that of a small server, in its tokens, which are words.
CONTEXT_WINDOW = 16_384

_WORD = re.compile(r"\S+\s*")

_THINKING_SECONDS = 0.9
_WORD_SECONDS = 0.03
_SENTENCE_END_SECONDS = 0.2
_TOOL_NAME_SECONDS = 0.4
_ARGUMENT_SECONDS = 0.04
# However long the text: nobody wants to watch a demo type out a page.
_MAX_TEXT_SECONDS = 1.7


class DemoModel:
    """Keeps no state: the same request gets the same reply."""

    def __init__(self, pace: float) -> None:
        """The pace scales all pauses: 1 for people, 0 for none."""
        self._pace = pace

    async def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        for pause_seconds, chunk in _performance(request, speak(request)):
            if self._pace:
                await asyncio.sleep(pause_seconds * self._pace)
            yield chunk

    @property
    def served(self) -> Served:
        return Served("", "demo", Placement.SYSTEM)

    async def context_window(self) -> int | None:
        return CONTEXT_WINDOW

    async def render(self, request: Request) -> str | None:
        return None


def _performance(request: Request, speech: Speech) -> Iterator[tuple[float, Chunk]]:
    """The chunks, each with the pause before it."""
    yield from _words(speech.text)
    for index, call in enumerate(speech.calls):
        yield from _call(index, call)
    written = speech.text + "".join(call.arguments_json for call in speech.calls)
    read = sum(len(_WORD.findall(str(message))) for message in request.messages)
    yield 0.0, Chunk(usage=Usage(input_tokens=read, output_tokens=len(_WORD.findall(written))), begun=False)


def _words(text: str) -> Iterator[tuple[float, Chunk]]:
    words = _WORD.findall(text)
    pauses = [
        _SENTENCE_END_SECONDS if word.rstrip().endswith((".", ":")) else _WORD_SECONDS for word in words
    ]
    haste = min(1.0, _MAX_TEXT_SECONDS / sum(pauses))
    pause = _THINKING_SECONDS
    for word, pause_after in zip(words, pauses, strict=True):
        yield pause, Chunk(text=word)
        pause = pause_after * haste


def _call(index: int, call: ToolCall) -> Iterator[tuple[float, Chunk]]:
    yield _TOOL_NAME_SECONDS, Chunk(tool_calls=(ToolCallPiece(index, call.call_id, call.name),))
    for piece in _WORD.findall(call.arguments_json):
        yield _ARGUMENT_SECONDS, Chunk(tool_calls=(ToolCallPiece(index, arguments=piece),))
