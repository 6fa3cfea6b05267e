"""What a server does wrong, and how it is told."""

import socket
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from agent_service.domain import RoundFailure
from agent_service.model import ModelError
from agent_service.model.failures import MAX_DETAIL_CHARACTERS
from agent_service.model.openai import OpenAIModel
from agent_service.settings import ModelConfig
from tests.model.scripted_server import DONE, answered, delta, event, streamed
from tests.model.support import chunks_of, failure_of, model_of, saying


async def test_nobody_listening_means_unavailable() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        model = OpenAIModel(ModelConfig(base_url=f"http://127.0.0.1:{bound.getsockname()[1]}/v1", model="m"))
        with pytest.raises(ModelError) as raised:
            await chunks_of(model, saying("hello"))
        await model.close()
    assert raised.value.reason is RoundFailure.MODEL_UNAVAILABLE


async def test_a_server_that_accepts_and_never_answers_means_unavailable() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        config = ModelConfig(base_url=f"http://127.0.0.1:{silent.getsockname()[1]}/v1", model="m")
        model = OpenAIModel(config, read_timeout_seconds=0.05)
        with pytest.raises(ModelError) as raised:
            await chunks_of(model, saying("hello"))
        await model.close()
    assert raised.value.reason is RoundFailure.MODEL_UNAVAILABLE
    assert raised.value.detail == "the model server did not answer in time"


async def test_a_server_that_falls_silent_in_the_middle_means_unavailable() -> None:
    silent = streamed(delta(content="Hel"))
    chunks, error = await failure_of(silent, stays_open=True, read_timeout_seconds=0.05)
    assert [chunk.text for chunk in chunks] == ["Hel"]
    assert error.reason is RoundFailure.MODEL_UNAVAILABLE
    assert error.detail == "the model server did not answer in time"


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
async def test_a_server_in_trouble_is_unavailable(status: int) -> None:
    _, error = await failure_of(answered(status, {"error": {"message": "Loading model"}}))
    assert error.reason is RoundFailure.MODEL_UNAVAILABLE
    assert error.detail == f"the model server answered {status}: Loading model"
    assert error.retry_after_seconds is None


@pytest.mark.parametrize("status", [400, 402, 422, 501])
async def test_a_request_that_can_never_work_is_refused(status: int) -> None:
    _, error = await failure_of(answered(status, {"error": {"message": "No."}}))
    assert error.reason is RoundFailure.MODEL_REFUSED
    assert error.detail == f"the model server answered {status}: No."


async def test_a_wrong_address_or_model_says_where_both_are_set() -> None:
    _, error = await failure_of(answered(404, {"error": {"message": "No."}}))
    assert error.reason is RoundFailure.MODEL_REFUSED
    assert error.detail == (
        "the model server answered 404 (see base_url and model of its table in spark.toml): No."
    )


@pytest.mark.parametrize("status", [401, 403])
async def test_a_key_that_is_missing_says_where_it_is_named(status: int) -> None:
    _, error = await failure_of(answered(status, {"error": {"message": "No."}}))
    assert error.reason is RoundFailure.MODEL_REFUSED
    assert error.detail == (
        f"the model server answered {status} (its table in spark.toml names no api_key_env): No."
    )


@pytest.mark.parametrize("status", [401, 403])
async def test_a_key_that_is_wrong_is_told_by_its_variable_and_cut_out_of_the_servers_words(
    status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_KEY", "s3cret")
    refusal = answered(status, {"error": {"message": "Incorrect API key: s3cret"}})
    _, error = await failure_of(refusal, api_key_env="LOCAL_KEY")
    assert error.detail == (
        f"the model server answered {status} (its key is in the variable LOCAL_KEY): "
        "Incorrect API key: [api key]"
    )


async def test_retry_after_is_honoured_in_seconds() -> None:
    _, error = await failure_of(answered(429, {}, retry_after="7.5"))
    assert error.retry_after_seconds == 7.5


async def test_retry_after_is_honoured_as_a_date() -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    _, error = await failure_of(answered(503, {}, retry_after=later))
    assert error.retry_after_seconds == pytest.approx(3600, abs=60)


@pytest.mark.parametrize("header", ["soon", "inf", "nan"])
async def test_a_retry_after_that_makes_no_sense_is_ignored(header: str) -> None:
    _, error = await failure_of(answered(429, {}, retry_after=header))
    assert error.retry_after_seconds is None


@pytest.mark.parametrize(
    "error",
    [
        {"message": "request (9 tokens) exceeds the available context size (8 tokens)"},
        {"message": "This model's maximum context length is 8 tokens. However, you requested 9."},
        {"message": "The decoder prompt (length 9) is longer than the maximum model length of 8."},
        {"message": "Too long.", "code": "context_length_exceeded"},
    ],
)
async def test_a_full_context_is_told_apart(error: dict[str, str]) -> None:
    for answer in (
        answered(400, {"error": error}),
        answered(200, {"error": error}),
        streamed(event(error=error)),
    ):
        _, failure = await failure_of(answer)
        assert failure.reason is RoundFailure.CONTEXT_OVERFLOW


async def test_a_body_that_is_too_large_for_the_server_is_a_full_context() -> None:
    _, error = await failure_of(answered(413, "<html>Request Entity Too Large</html>"))
    assert error.reason is RoundFailure.CONTEXT_OVERFLOW


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "out of slots"}},
        {"error": "out of slots"},
        {"detail": "out of slots"},
        {"object": "error", "message": "out\nof slots"},
    ],
)
async def test_the_servers_own_words_are_passed_on_in_whatever_form(body: object) -> None:
    _, error = await failure_of(answered(503, body))
    assert error.detail == "the model server answered 503: out of slots"


@pytest.mark.parametrize(
    "body", ["<html>Bad gateway</html>", {"detail": "Traceback (most recent call last)"}]
)
async def test_pages_and_tracebacks_are_not_passed_on(body: object) -> None:
    _, error = await failure_of(answered(502, body))
    assert error.detail == "the model server answered 502"


async def test_long_words_of_the_server_are_cut() -> None:
    _, error = await failure_of(answered(500, {"error": {"message": "x" * 1000}}))
    assert error.detail == "the model server answered 500: " + "x" * MAX_DETAIL_CHARACTERS


@pytest.mark.parametrize(
    "failure",
    [
        event(error={"message": "out of memory"}),
        event(error="out of memory"),
        event(object="error", message="out of memory", code=500),
        event(error={"message": "out of memory"}, choices=[{"delta": {}, "finish_reason": "error"}]),
    ],
)
async def test_an_error_in_the_middle_of_a_stream_comes_after_what_was_said(failure: str) -> None:
    chunks, error = await failure_of(streamed(delta(content="Hel"), failure, DONE))
    assert [chunk.text for chunk in chunks] == ["Hel"]
    assert error.reason is RoundFailure.MODEL_UNAVAILABLE
    assert error.detail == "the model server broke off: out of memory"


async def test_comments_before_an_error_are_not_the_beginning_of_a_reply() -> None:
    chunks, error = await failure_of(streamed(": ping\n\n", ": ping\n\n", event(error={"message": "busy"})))
    assert chunks == []
    assert error.reason is RoundFailure.MODEL_UNAVAILABLE


async def test_an_error_with_status_200_is_told_in_the_servers_words() -> None:
    chunks, error = await failure_of(answered(200, {"error": {"message": "out of memory"}}))
    assert chunks == []
    assert error.reason is RoundFailure.MODEL_UNAVAILABLE
    assert error.detail == "the model server broke off: out of memory"


@pytest.mark.parametrize(
    "body", [{"choices": [{"message": {"content": "Hello."}}]}, [], {"choices": "x" * 100_000}]
)
async def test_a_reply_that_is_no_stream_is_a_bad_reply(body: object) -> None:
    chunks, error = await failure_of(answered(200, body))
    assert chunks == []
    assert error.reason is RoundFailure.BAD_REPLY
    assert error.detail == ("the model server answered with application/json, not with a stream of events")


async def test_a_page_in_the_place_of_a_stream_is_a_bad_reply() -> None:
    page = streamed("<html>Welcome</html>").replace("text/event-stream", "text/html; charset=utf-8")
    _, error = await failure_of(page)
    assert error.reason is RoundFailure.BAD_REPLY
    assert error.detail == "the model server answered with text/html, not with a stream of events"


async def test_a_connection_cut_in_the_middle_means_unavailable() -> None:
    cut = streamed(delta(content="Hel")).replace("connection: close", "content-length: 100000")
    chunks, error = await failure_of(cut)
    assert [chunk.text for chunk in chunks] == ["Hel"]
    assert error.reason is RoundFailure.MODEL_UNAVAILABLE


@pytest.mark.parametrize("answer", ["", "SSH-2.0-OpenSSH\r\n", "HTTP/1.1 200 OK\r\n"])
async def test_what_is_no_http_means_unavailable(answer: str) -> None:
    _, error = await failure_of(answer)
    assert error.reason is RoundFailure.MODEL_UNAVAILABLE


@pytest.mark.parametrize(
    "nonsense",
    [
        "data: Hello\n\n",
        "data: 7\n\n",
        "data: [" + "[" * 200_000 + "\n\n",
        event(choices="none"),
        event(choices=[{"delta": 1}]),
        event(choices=[{"delta": {"content": ["Hello"]}}]),
        answered(200, "{"),
    ],
)
async def test_what_is_no_chat_completion_is_a_bad_reply(nonsense: str) -> None:
    chunks, error = await failure_of(nonsense if nonsense.startswith("HTTP") else streamed(nonsense))
    assert chunks == []
    assert error.reason is RoundFailure.BAD_REPLY
    assert error.detail == "the model server sent what is no chat completion"


async def test_a_list_of_models_that_is_none_is_a_bad_reply() -> None:
    for nonsense in (answered(200, "<html>Welcome</html>"), answered(200, {"data": "none"})):
        _, error = await failure_of(nonsense, model="")
        assert error.reason is RoundFailure.BAD_REPLY


async def test_a_server_that_redirects_in_circles_means_unavailable() -> None:
    async with model_of(answered(307, "", location="/v1/chat/completions")) as (asked, _):
        with pytest.raises(ModelError) as raised:
            await chunks_of(asked, saying("hello"))
    assert raised.value.reason is RoundFailure.MODEL_UNAVAILABLE


async def test_of_a_template_that_refuses_a_conversation_only_its_own_words_are_told() -> None:
    said = "\n------------\nWhile executing line 85 ...\nError: Jinja Exception: No system message here."
    _, error = await failure_of(answered(500, {"error": {"message": said}}))
    assert error.detail == "the model server answered 500: No system message here."
