"""A model behind any server that speaks the chat completions API."""

import asyncio
import json
import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress

from httpx2 import Response
from openai import APIConnectionError, AsyncOpenAI, AsyncStream, Timeout

from agent_service.domain import Placement
from agent_service.model import wire
from agent_service.model.context_window import ContextWindow
from agent_service.model.failures import Failures, no_single_model, no_stream
from agent_service.model.protocol import Chunk, Request, Served
from agent_service.model.reading import Reading
from agent_service.model.rendering import Rendering
from agent_service.settings import ModelConfig, SettingsError

MAX_REPLY_BYTES = 1024 * 1024

# What a server answers with that does not stream. Others are believed to, whatever they call it.
_JSON, _PAGE = "application/json", "text/html"
_MAX_BODY_BYTES = 64 * 1024


class OpenAIModel:
    """Asks one server. Retries nothing: the loop asks again, from the safe point."""

    def __init__(
        self,
        config: ModelConfig,
        *,
        max_reply_bytes: int = MAX_REPLY_BYTES,
        connect_timeout_seconds: float = 5,
        read_timeout_seconds: float = 300,
        end_timeout_seconds: float = 2,
    ) -> None:
        """The read timeout bounds each silence of the server, the reading of a long prompt included. The end
        timeout is for what comes after the last words of a reply, which is whole without it.

        Raises SettingsError if the variable that should hold the API key is not set.
        """
        self._model = config.model
        self._max_reply_bytes, self._end_timeout_seconds = max_reply_bytes, end_timeout_seconds
        api_key = _api_key(config.api_key_env)
        self._failures = Failures(api_key, config.api_key_env)
        self._client = AsyncOpenAI(
            base_url=config.base_url,
            # Never empty, or the library sends this server the key that it finds in OPENAI_API_KEY.
            api_key=api_key or "none",
            timeout=Timeout(read_timeout_seconds, connect=connect_timeout_seconds),
            # A connection that is kept is closed by the server at any moment, that of its next use included.
            default_headers={"connection": "close"},
            max_retries=0,
        )
        self._window = ContextWindow(self._client, config.context_window)
        self._rendering = Rendering(self._client, self._failures)
        placement = None if config.placement == "auto" else Placement(config.placement)
        self._served = Served(config.base_url, config.model, placement)

    @property
    def served(self) -> Served:
        return self._served

    async def context_window(self) -> int | None:
        return await self._window.tokens(self._model)

    async def render(self, request: Request) -> str | None:
        with self._failures.told():
            model = await self._model_name()
        return await self._rendering.prompt(model, request)

    async def close(self) -> None:
        await self._client.close()

    async def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        reply = Reading(self._max_reply_bytes)
        with self._failures.told():
            async with await self._post(request) as events:
                await _check_stream(events.response)
                coming = aiter(events)
                async for data in coming:
                    yield reply.read(data)
                    if reply.is_finished:
                        break
                for chunk in await self._rest(coming, reply):
                    yield chunk
        if not (reply.is_cut and request.max_tokens):
            reply.end(await self.context_window() if reply.is_cut else None)

    async def _rest(self, coming: AsyncIterator[object], reply: Reading) -> list[Chunk]:
        """What follows the end of a reply: usage figures, unless the server leaves off or just stays."""
        rest: list[Chunk] = []
        with suppress(TimeoutError, APIConnectionError):
            async with asyncio.timeout(self._end_timeout_seconds):
                async for data in coming:
                    rest.append(reply.read(data))
        return rest

    async def _post(self, request: Request) -> AsyncStream[object]:
        # Not chat.completions.create: it walks every message against its types, at 17 times the cost.
        return await self._client.post(
            "/chat/completions",
            body=wire.body(await self._model_name(), request),
            cast_to=object,
            stream=True,
            stream_cls=AsyncStream[object],
        )

    async def _model_name(self) -> str:
        """The configured model, otherwise the only one of the server, which is asked until it has said so."""
        if not self._model:
            offered = wire.read_models(await self._client.get("/models", cast_to=object))
            if len(offered) != 1:
                raise no_single_model(offered)
            self._model = offered[0]
        return self._model


async def _check_stream(response: Response) -> None:
    """Raises wire.ServerFailure or ModelError where a whole body came in the place of a stream."""
    media_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type == _JSON:
        body = b""
        async for part in response.aiter_bytes():
            body += part
            if len(body) > _MAX_BODY_BYTES:
                break
        else:
            wire.raise_failure(json.loads(body))
    if media_type in (_JSON, _PAGE):
        raise no_stream(media_type)


def _api_key(variable: str) -> str:
    if not variable:
        return ""
    key = os.environ.get(variable, "").strip()
    if not key:
        raise SettingsError(f"api_key_env: the variable {variable} is not set")
    if not key.isascii() or not key.isprintable():
        raise SettingsError(f"api_key_env: the variable {variable} holds what cannot be sent as a key")
    return key
