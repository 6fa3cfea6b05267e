"""What goes wrong with a request, as a ModelError in words for people.

Nothing of the library's own texts is passed on: of all that it raises only the server's words are kept, and
of these no web page, no traceback and no key.
"""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from math import isfinite

import httpx2
from openai import APIConnectionError, APIError, APIStatusError, APITimeoutError

from agent_service.domain import RoundFailure, storable
from agent_service.model import wire
from agent_service.model.protocol import ModelError

MAX_DETAIL_CHARACTERS = 300

# What llama.cpp says before the words of a chat template that refuses a conversation: where in it they stand.
_OF_TEMPLATE = re.compile(r".*\bJinja Exception: ", re.S)
# As llama.cpp, vLLM, SGLang and OpenAI say it, in a message or in a code.
_OVERFLOW = re.compile(r"context[ _](length|size|window)|maximum model length|prompt is too long", re.I)
_TOO_LARGE = 413


class Failures:
    """Tells those of one server, whose key is in the variable, if it has one."""

    def __init__(self, api_key: str, key_variable: str) -> None:
        self._api_key, self._key_variable = api_key, key_variable

    @contextmanager
    def told(self) -> Iterator[None]:
        """Raises ModelError in the place of whatever a request to the server raises."""
        try:
            yield
        except APITimeoutError:
            raise unavailable("the model server did not answer in time") from None
        except (APIConnectionError, httpx2.RequestError):
            raise unavailable("the connection to the model server could not be made, or broke") from None
        except APIStatusError as error:
            raise self._refusal(error) from None
        except (APIError, wire.ServerFailure) as error:
            raise self._breaking_off(error.body) from None
        except (ValueError, RecursionError):
            detail = "the model server sent what is no chat completion"
            raise ModelError(RoundFailure.BAD_REPLY, detail) from None

    def _refusal(self, error: APIStatusError) -> ModelError:
        status, said = error.status_code, self._said(error.body)
        detail = _sentence(f"the model server answered {status}{self._advice(status)}", said)
        if status == _TOO_LARGE or _overflows(said, error.body):
            return ModelError(RoundFailure.CONTEXT_OVERFLOW, detail)
        if wire.is_busy(status):
            retry_after = _retry_after_seconds(error.response.headers.get("retry-after", ""))
            return unavailable(detail, retry_after, status)
        return ModelError(RoundFailure.MODEL_REFUSED, detail, status=status)

    def _advice(self, status: int) -> str:
        """Where to look, for what is wrong with the configuration as a rule."""
        match status:
            case 401 | 403 if self._key_variable:
                return f" (its key is in the variable {self._key_variable})"
            case 401 | 403:
                return " (its table in spark.toml names no api_key_env)"
            case 404:
                return " (see base_url and model of its table in spark.toml)"
            case _:
                return ""

    def _breaking_off(self, body: object) -> ModelError:
        """The failure for an error in the place of an event."""
        said = self._said(body)
        detail = _sentence("the model server broke off", said)
        if _overflows(said, body):
            return ModelError(RoundFailure.CONTEXT_OVERFLOW, detail)
        return unavailable(detail)

    def _said(self, body: object) -> str:
        """The server's own message as one line, cut."""
        match body:
            case {"message": str(said)} | {"detail": str(said)} | str(said):
                pass
            case _:
                return ""
        if said.lstrip().startswith("<") or "Traceback" in said:
            return ""
        if self._api_key:
            said = said.replace(self._api_key, "[api key]")
        said = _OF_TEMPLATE.sub("", said)
        return storable(" ".join(said.split())[:MAX_DETAIL_CHARACTERS])


def unavailable(
    detail: str, retry_after_seconds: float | None = None, status: int | None = None
) -> ModelError:
    return ModelError(RoundFailure.MODEL_UNAVAILABLE, detail, retry_after_seconds, status)


def no_single_model(offered: list[str]) -> ModelError:
    """The failure for a server that is to choose the model and cannot."""
    offer = f"{len(offered)} models, not one" if offered else "no model"
    what = f"the model server offers {offer}: name one by the key model of its table in spark.toml"
    said = ", ".join(offered)[:MAX_DETAIL_CHARACTERS]
    return ModelError(RoundFailure.MODEL_REFUSED, _sentence(what, said))


def no_stream(media_type: str) -> ModelError:
    """The failure for a server that answers with something else."""
    detail = f"the model server answered with {media_type}, not with a stream of events"
    return ModelError(RoundFailure.BAD_REPLY, detail)


def _sentence(what: str, said: str) -> str:
    return f"{what}: {said}" if said else what


def _overflows(said: str, body: object) -> bool:
    codes = (body.get("code"), body.get("type")) if isinstance(body, dict) else ()
    return bool(_OVERFLOW.search(" ".join(map(str, (said, *codes)))))


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
