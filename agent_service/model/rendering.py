"""The prompt that a server makes of a request. The API has no place for it; servers show it in their ways:

- POST /apply-template at the server's root (llama.cpp)
- POST /tokenize and /detokenize at its root (vLLM), or beside the chat completions (SGLang)
- POST /api/chat at its root, to render only (Ollama)
"""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from openai import APIStatusError, AsyncOpenAI
from pydantic import TypeAdapter

from agent_service.domain import Json, JsonObject
from agent_service.model import wire
from agent_service.model.failures import Failures
from agent_service.model.protocol import Request

_WORDS = "Is anybody there"
_TRIAL = Request([{"role": "user", "content": f"{_WORDS}?"}])


@dataclass(frozen=True, slots=True)
class _Prompt:
    """Under the one or the other name."""

    prompt: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class _Tokens:
    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Rendered:
    rendered_template: str


_PROMPT, _TOKENS = TypeAdapter(_Prompt), TypeAdapter(_Tokens)
_OLLAMA = TypeAdapter(Mapping[str, object])
_RENDERED = TypeAdapter(_Rendered)

_Way = Callable[[str, Request], Awaitable[str]]


class Rendering:
    """Finds out once how the server does it. One that does not answer is asked again."""

    def __init__(self, client: AsyncOpenAI, failures: Failures) -> None:
        self._client, self._failures = client, failures
        self._beside = str(client.base_url).rstrip("/")
        self._root = self._beside.removesuffix("/v1")
        self._way: _Way | None = None
        self._settled = False

    async def prompt(self, model: str, request: Request) -> str | None:
        """None where the server has no way to show it. Raises ModelError."""
        with self._failures.told():
            if not self._settled:
                self._way = await self._working_way(model)
                self._settled = True
            return await self._way(model, request) if self._way else None

    async def _working_way(self, model: str) -> _Way | None:
        """The first that shows what it was given."""
        ways: Sequence[_Way] = (
            self._by_template,
            partial(self._by_tokens, self._root),
            partial(self._by_tokens, self._beside),
            self._by_ollama,
        )
        for way in ways:
            try:
                if _WORDS in await way(model, _TRIAL):
                    return way
            except APIStatusError as error:
                if wire.is_busy(error.status_code) and error.status_code != 500:
                    raise
            except (ValueError, RecursionError):
                pass  # It has something else there.
        return None

    async def _by_template(self, model: str, request: Request) -> str:
        answer = await self._post(f"{self._root}/apply-template", wire.conversation(model, request))
        return _PROMPT.validate_python(answer).prompt

    async def _by_tokens(self, base: str, model: str, request: Request) -> str:
        tokens = _TOKENS.validate_python(
            await self._post(f"{base}/tokenize", wire.conversation(model, request))
        )
        asked = {"model": model, "tokens": tokens.tokens, "skip_special_tokens": False}
        shown = _PROMPT.validate_python(await self._post(f"{base}/detokenize", asked))
        return shown.prompt or shown.text

    async def _by_ollama(self, model: str, request: Request) -> str:
        asked = {
            **wire.conversation(model, request),
            "messages": [_with_objects(message) for message in request.messages],
            "stream": False,
            "_debug_render_only": True,
            # An old one does not know that, and answers.
            "options": {"num_predict": 1},
        }
        answer = _OLLAMA.validate_python(await self._post(f"{self._root}/api/chat", asked))
        return _RENDERED.validate_python(answer.get("_debug_info")).rendered_template

    async def _post(self, url: str, body: Mapping[str, object]) -> object:
        return await self._client.post(url, body=body, cast_to=object)


def _with_objects(message: JsonObject) -> JsonObject:
    """The message with the arguments of its calls as Ollama's own API takes them."""
    calls = message.get("tool_calls")
    if not isinstance(calls, Sequence):
        return message
    return {**message, "tool_calls": [_with_object(call) for call in calls]}


def _with_object(call: Json) -> Json:
    match call:
        case {"function": {"name": name, "arguments": str(arguments)}}:
            return {"function": {"name": name, "arguments": json.loads(arguments)}}
        case _:
            return call
