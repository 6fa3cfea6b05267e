"""How long a server's context is. The API has no place for it, and servers tell it in two:

- GET /models: `max_model_len` of the model (vLLM, SGLang), or `n_ctx` in its `meta` (llama.cpp)
- GET /props at the server's root: `n_ctx` in `default_generation_settings` (llama.cpp, older ones too)
"""

import asyncio
from dataclasses import dataclass

import httpx2
from openai import APIError, APIStatusError, AsyncOpenAI
from pydantic import PositiveInt, TypeAdapter, ValidationError

from agent_service.model.wire import is_busy


@dataclass(frozen=True, slots=True)
class _Settings:
    n_ctx: PositiveInt | None = None


@dataclass(frozen=True, slots=True)
class _Offered:
    id: str
    max_model_len: PositiveInt | None = None
    meta: _Settings | None = None


@dataclass(frozen=True, slots=True)
class _Offer:
    data: tuple[_Offered, ...]


@dataclass(frozen=True, slots=True)
class _Props:
    default_generation_settings: _Settings


_OFFER = TypeAdapter(_Offer)
_PROPS = TypeAdapter(_Props)


class ContextWindow:
    """What was configured, or else what the server says. A server that answers without telling is not asked
    again; one that does not answer is."""

    def __init__(self, client: AsyncOpenAI, configured: int | None, max_seconds: float = 2) -> None:
        self._client, self._max_seconds, self._tokens = client, max_seconds, configured
        self._settled = configured is not None
        self._asking = asyncio.Lock()

    async def tokens(self, model: str) -> int | None:
        """The window of the model of this name, or of the server's only one."""
        try:
            async with asyncio.timeout(self._max_seconds), self._asking:
                if not self._settled:
                    self._tokens = await self._told(model)
                    self._settled = True
        except (TimeoutError, APIError, httpx2.RequestError):
            return None
        return self._tokens

    async def _told(self, model: str) -> int | None:
        if window := _of_model(model, await self._get("/models")):
            return window
        root = str(self._client.base_url).rstrip("/").removesuffix("/v1")
        return _of_props(await self._get(f"{root}/props"))

    async def _get(self, url: str) -> object:
        """What the server has there, or None. Raises APIError if it cannot say now."""
        try:
            return await self._client.get(url, cast_to=object)
        except APIStatusError as error:
            if is_busy(error.status_code):
                raise
        except (ValueError, RecursionError):
            pass  # What it calls JSON is none.
        return None


def _of_model(model: str, answer: object) -> int | None:
    try:
        offered = _OFFER.validate_python(answer).data
    except ValidationError:
        return None
    named = [one for one in offered if one.id == model] or offered
    if len(named) != 1:
        return None
    meta = named[0].meta or _Settings()
    return named[0].max_model_len or meta.n_ctx


def _of_props(answer: object) -> int | None:
    try:
        return _PROPS.validate_python(answer).default_generation_settings.n_ctx
    except ValidationError:
        return None
