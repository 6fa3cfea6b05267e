"""A model behind any server that speaks the chat completions API."""

import asyncio
import os
import re
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from json import JSONDecodeError
from math import isfinite

import httpx2
from openai import (
    APIConnectionError,
    APIError,
    APIStatusError,
    APITimeoutError,
    AsyncOpenAI,
    AsyncStream,
    Timeout,
)
from pydantic import ValidationError

from agent_service.domain import RoundFailure
from agent_service.model import wire
from agent_service.model.protocol import Chunk, ModelError, Request
from agent_service.settings import ModelConfig, SettingsError

MAX_DETAIL_CHARACTERS = 300

_BUSY_STATUS = frozenset({408, 409, 425, 429})
_CUT_SHORT = frozenset({"length", "content_filter"})
# As llama.cpp, vLLM, SGLang and OpenAI say it, in a message or in a code.
_OVERFLOW = re.compile(r"context[ _](length|size|window)|maximum model length|prompt is too long", re.I)


class OpenAIModel:
    """Asks one server. Retries nothing: the loop asks again, from the safe point."""

    def __init__(
        self,
        config: ModelConfig,
        *,
        connect_timeout_seconds: float = 5,
        read_timeout_seconds: float = 300,
    ) -> None:
        """The read timeout bounds each silence of the server, the reading of a long prompt included.

        Raises SettingsError if the variable that should hold the API key is not set.
        """
        self._model = config.model
        self._asking_for_model = asyncio.Lock()
        self._api_key = _api_key(config.api_key_env)
        self._client = AsyncOpenAI(
            base_url=config.base_url,
            # Never empty, or the library sends this server the key that it finds in OPENAI_API_KEY.
            api_key=self._api_key or "none",
            timeout=Timeout(read_timeout_seconds, connect=connect_timeout_seconds),
            max_retries=0,
        )

    async def close(self) -> None:
        await self._client.close()

    async def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        finish_reason = None
        with self._failures_told():
            async with await self._post(request) as events:
                async for data in events:
                    chunk, reason = wire.read_event(data)
                    finish_reason = reason or finish_reason
                    yield chunk
        if finish_reason is None:
            raise _unavailable("the model server broke off before the end of the reply")
        if finish_reason in _CUT_SHORT:
            detail = f"the model server cut the reply short (finish_reason {finish_reason})"
            raise ModelError(RoundFailure.BAD_REPLY, detail)

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
        """The configured model, otherwise the only one of the server, which is asked once."""
        async with self._asking_for_model:
            if not self._model:
                offered = wire.read_models(await self._client.get("/models", cast_to=object))
                self._model = _only(offered)
        return self._model

    @contextmanager
    def _failures_told(self) -> Iterator[None]:
        """Turn what the library raises into ModelError. Of its texts only the server's words are kept."""
        try:
            yield
        except APITimeoutError:
            raise _unavailable("the model server did not answer in time") from None
        except (APIConnectionError, httpx2.RequestError):
            raise _unavailable("the connection to the model server could not be made, or broke") from None
        except APIStatusError as error:
            raise self._refusal(error) from None
        except APIError as error:
            raise self._breaking_off(error) from None
        except (ValidationError, JSONDecodeError, UnicodeDecodeError):
            detail = "the model server sent what is no chat completion"
            raise ModelError(RoundFailure.BAD_REPLY, detail) from None

    def _refusal(self, error: APIStatusError) -> ModelError:
        status, said = error.status_code, self._said(error)
        detail = _sentence(f"the model server answered {status}", said)
        if _overflow(error, said):
            return ModelError(RoundFailure.CONTEXT_OVERFLOW, detail)
        if status in _BUSY_STATUS or status >= 500:
            return _unavailable(detail, _retry_after_seconds(error.response.headers.get("retry-after", "")))
        return ModelError(RoundFailure.MODEL_REFUSED, detail)

    def _breaking_off(self, error: APIError) -> ModelError:
        """The failure for an error event in the middle of a stream."""
        said = self._said(error)
        detail = _sentence("the model server broke off", said)
        return (
            ModelError(RoundFailure.CONTEXT_OVERFLOW, detail)
            if _overflow(error, said)
            else _unavailable(detail)
        )

    def _said(self, error: APIError) -> str:
        """The server's own message as one line, cut; no web page, no traceback, no key."""
        match error.body:
            case {"message": str(said)} | {"detail": str(said)} | str(said):
                pass
            case _:
                return ""
        if said.lstrip().startswith("<") or "Traceback" in said:
            return ""
        if self._api_key:
            said = said.replace(self._api_key, "[api key]")
        return wire.storable(" ".join(said.split())[:MAX_DETAIL_CHARACTERS])


def _api_key(variable: str) -> str:
    if not variable:
        return ""
    key = os.environ.get(variable, "").strip()
    if not key:
        raise SettingsError(f"api_key_env: the variable {variable} is not set")
    return key


def _only(offered: list[str]) -> str:
    if len(offered) == 1:
        return offered[0]
    offer = f"{len(offered)} models, not one" if offered else "no model"
    raise ModelError(
        RoundFailure.MODEL_REFUSED,
        _sentence(
            f"the model server offers {offer}: name one by the key model of its table in spark.toml",
            ", ".join(offered)[:MAX_DETAIL_CHARACTERS],
        ),
    )


def _unavailable(detail: str, retry_after_seconds: float | None = None) -> ModelError:
    return ModelError(RoundFailure.MODEL_UNAVAILABLE, detail, retry_after_seconds)


def _sentence(what: str, said: str) -> str:
    return f"{what}: {said}" if said else what


def _overflow(error: APIError, said: str) -> bool:
    return bool(_OVERFLOW.search(f"{said} {error.code} {error.type}"))


def _retry_after_seconds(header: str) -> float | None:
    """Read a Retry-After header, which holds seconds or a date."""
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(header).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    return max(0.0, seconds) if isfinite(seconds) else None
