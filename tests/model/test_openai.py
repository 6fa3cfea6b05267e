"""The OpenAI model against a server that fails as it is told."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from agent_service.domain import RoundFailure, ToolCall
from agent_service.model import Chunk, ModelError, Request
from agent_service.model.openai import MAX_DETAIL_CHARACTERS, OpenAIModel
from agent_service.settings import ModelConfig, SettingsError
from tests.model.scripted_server import (
    DONE,
    ScriptedServer,
    answered,
    delta,
    event,
    scripted,
    streamed,
)
from tests.model.support import NOTE, chunks_of, reply_of, saying

HELLO = streamed(delta(content="Hello."), delta("stop"), DONE)


@asynccontextmanager
async def model_of(
    *answers: str, model: str = "m", api_key_env: str = ""
) -> AsyncIterator[tuple[OpenAIModel, ScriptedServer]]:
    async with scripted(*answers) as server:
        config = ModelConfig(base_url=server.url, model=model, api_key_env=api_key_env)
        asked = OpenAIModel(config, read_timeout_seconds=10)
        try:
            yield asked, server
        finally:
            await asked.close()


async def failure_of(*answers: str, model: str = "m") -> tuple[list[Chunk], ModelError]:
    """What a request yields, and the error that ends it."""
    chunks: list[Chunk] = []
    async with model_of(*answers, model=model) as (asked, _):
        try:
            async for chunk in asked.stream(saying("hello")):
                chunks.append(chunk)
        except ModelError as error:
            return chunks, error
    pytest.fail("the request did not fail")


async def test_messages_are_sent_as_they_are_and_tools_as_functions() -> None:
    request = Request([{"role": "system", "content": "Ü", "extra": 1}], [NOTE])
    async with model_of(HELLO) as (asked, server):
        await chunks_of(asked, request)
    [received] = server.received
    assert received.path == "/v1/chat/completions"
    assert received.body == {
        "model": "m",
        "messages": request.messages,
        "stream": True,
        "stream_options": {"include_usage": True},
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "note",
                    "description": "Writes into the log.",
                    "parameters": NOTE.parameters,
                },
            }
        ],
    }


async def test_without_tools_none_are_mentioned() -> None:
    async with model_of(HELLO) as (asked, server):
        await chunks_of(asked, saying("hello"))
    assert "tools" not in server.received[0].body


async def test_the_api_key_is_read_from_the_variable_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "ambient")
    monkeypatch.setenv("LOCAL_KEY", "local\n")
    async with model_of(HELLO, api_key_env="LOCAL_KEY") as (asked, server):
        await chunks_of(asked, saying("hello"))
    assert server.received[0].headers["authorization"] == "Bearer local"


async def test_a_key_that_is_not_named_is_never_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "ambient")
    monkeypatch.setenv("OPENAI_ADMIN_KEY", "ambient")
    async with model_of(HELLO) as (asked, server):
        await chunks_of(asked, saying("hello"))
    assert "ambient" not in str(server.received[0].headers)


def test_a_missing_key_stops_the_start_and_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCAL_KEY", raising=False)
    with pytest.raises(SettingsError, match="LOCAL_KEY is not set"):
        OpenAIModel(ModelConfig(base_url="http://127.0.0.1:1/v1", api_key_env="LOCAL_KEY"))


async def test_the_only_model_of_the_server_is_asked_for_once() -> None:
    async with model_of(answered(200, {"data": [{"id": "qwen"}]}), HELLO, model="") as (asked, server):
        await chunks_of(asked, saying("hello"))
        await chunks_of(asked, saying("hello"))
    assert [received.path for received in server.received] == [
        "/v1/models",
        "/v1/chat/completions",
        "/v1/chat/completions",
    ]
    assert server.received[-1].body["model"] == "qwen"


@pytest.mark.parametrize("names", [[], ["a", "b"]])
async def test_a_server_without_one_only_model_is_refused_naming_the_setting(names: list[str]) -> None:
    offer = answered(200, {"data": [{"id": name} for name in names]})
    _, error = await failure_of(offer, model="")
    assert error.reason is RoundFailure.MODEL_REFUSED
    assert "name one by the key model of its table in spark.toml" in error.detail
    assert all(name in error.detail for name in names)


async def test_nobody_listening_means_unavailable() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        model = OpenAIModel(ModelConfig(base_url=f"http://127.0.0.1:{bound.getsockname()[1]}/v1", model="m"))
        with pytest.raises(ModelError) as raised:
            await chunks_of(model, saying("hello"))
        await model.close()
    assert raised.value.reason is RoundFailure.MODEL_UNAVAILABLE


async def test_a_silent_server_means_unavailable() -> None:
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


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
async def test_a_server_in_trouble_is_unavailable(status: int) -> None:
    _, error = await failure_of(answered(status, {"error": {"message": "Loading model"}}))
    assert error.reason is RoundFailure.MODEL_UNAVAILABLE
    assert error.detail == f"the model server answered {status}: Loading model"
    assert error.retry_after_seconds is None


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
async def test_a_request_that_can_never_work_is_refused(status: int) -> None:
    _, error = await failure_of(answered(status, {"error": {"message": "No."}}))
    assert error.reason is RoundFailure.MODEL_REFUSED
    assert error.detail == f"the model server answered {status}: No."


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
    _, refusal = await failure_of(answered(400, {"error": error}))
    assert refusal.reason is RoundFailure.CONTEXT_OVERFLOW
    _, breaking_off = await failure_of(streamed(event(error=error)))
    assert breaking_off.reason is RoundFailure.CONTEXT_OVERFLOW


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "model not found"}},
        {"error": "model not found"},
        {"detail": "model not found"},
        {"object": "error", "message": "model\nnot found"},
    ],
)
async def test_the_servers_own_words_are_passed_on_in_whatever_form(body: object) -> None:
    _, error = await failure_of(answered(404, body))
    assert error.detail == "the model server answered 404: model not found"


@pytest.mark.parametrize(
    "body", ["<html>Bad gateway</html>", {"detail": "Traceback (most recent call last)"}]
)
async def test_pages_and_tracebacks_are_not_passed_on(body: object) -> None:
    _, error = await failure_of(answered(502, body))
    assert error.detail == "the model server answered 502"


async def test_long_words_of_the_server_are_cut() -> None:
    _, error = await failure_of(answered(500, {"error": {"message": "x" * 1000}}))
    assert error.detail == "the model server answered 500: " + "x" * MAX_DETAIL_CHARACTERS


async def test_the_key_is_cut_out_of_the_servers_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_KEY", "s3cret")
    refusal = answered(401, {"error": {"message": "Incorrect API key: s3cret"}})
    async with model_of(refusal, api_key_env="LOCAL_KEY") as (asked, _):
        with pytest.raises(ModelError) as raised:
            await chunks_of(asked, saying("hello"))
    assert raised.value.detail == "the model server answered 401: Incorrect API key: [api key]"


async def test_an_error_in_the_middle_of_a_stream_comes_after_what_was_said() -> None:
    chunks, error = await failure_of(
        streamed(delta(content="Hel"), event(error={"message": "out of memory"}))
    )
    assert [chunk.text for chunk in chunks] == ["Hel"]
    assert error.reason is RoundFailure.MODEL_UNAVAILABLE
    assert error.detail == "the model server broke off: out of memory"


async def test_comments_before_an_error_are_not_the_beginning_of_a_reply() -> None:
    chunks, error = await failure_of(streamed(": ping\n\n", ": ping\n\n", event(error={"message": "busy"})))
    assert chunks == []
    assert error.reason is RoundFailure.MODEL_UNAVAILABLE


@pytest.mark.parametrize("end", ["", DONE])
async def test_a_stream_without_a_finish_reason_is_no_reply(end: str) -> None:
    chunks, error = await failure_of(streamed(delta(content="Hel"), end))
    assert [chunk.text for chunk in chunks] == ["Hel"]
    assert error.reason is RoundFailure.MODEL_UNAVAILABLE


async def test_a_connection_cut_in_the_middle_means_unavailable() -> None:
    cut = streamed(delta(content="Hel")).replace("connection: close", "content-length: 100000")
    chunks, error = await failure_of(cut)
    assert [chunk.text for chunk in chunks] == ["Hel"]
    assert error.reason is RoundFailure.MODEL_UNAVAILABLE


async def test_a_reply_cut_at_its_length_is_no_reply() -> None:
    usage = event(choices=[], usage={"prompt_tokens": 3, "completion_tokens": 2})
    chunks, error = await failure_of(streamed(delta(content="Hel"), delta("length"), usage, DONE))
    assert error.reason is RoundFailure.BAD_REPLY
    assert chunks[-1].usage


@pytest.mark.parametrize(
    "nonsense", ["data: Hello\n\n", event(choices="none"), event(choices=[{"delta": 1}])]
)
async def test_what_is_no_chat_completion_is_a_bad_reply(nonsense: str) -> None:
    chunks, error = await failure_of(streamed(nonsense))
    assert chunks == []
    assert error.reason is RoundFailure.BAD_REPLY


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
async def test_reasoning_is_read_by_either_name(name: str) -> None:
    async with model_of(streamed(delta(**{name: "Hm."}), delta("stop", content="Yes."))) as (asked, _):
        reply = await reply_of(asked, saying("hello"))
    assert (reply.reasoning, reply.text) == ("Hm.", "Yes.")


async def test_usage_alone_is_not_the_beginning_of_a_reply() -> None:
    counted = {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 8}}
    answer = streamed(event(usage=counted), delta("stop", content="Yes."), event(choices=[], usage=counted))
    async with model_of(answer) as (asked, _):
        chunks = await chunks_of(asked, saying("hello"))
        reply = await reply_of(asked, saying("hello"))
    assert [chunk.begun for chunk in chunks] == [False, True, False]
    assert (reply.usage.input_tokens, reply.usage.cached_input_tokens, reply.usage.output_tokens) == (9, 8, 2)


async def test_pieces_of_two_calls_are_told_apart_by_their_index() -> None:
    def piece(index: int, arguments: str, **rest: str) -> str:
        function = {"arguments": arguments} | ({"name": rest["name"]} if rest else {})
        return delta(tool_calls=[{"index": index, "function": function} | rest])

    answer = streamed(
        piece(0, "", id="a", name="now"),
        piece(1, '{"te', id="b", name="note"),
        piece(0, "{}"),
        piece(1, 'xt": "x"}'),
        delta("tool_calls"),
    )
    async with model_of(answer) as (asked, _):
        reply = await reply_of(asked, saying("hello"))
    assert reply.tool_calls == (ToolCall("a", "now", "{}"), ToolCall("b", "note", '{"text": "x"}'))


async def test_what_cannot_be_stored_is_replaced() -> None:
    call = {"index": 0, "id": "a", "function": {"name": "note", "arguments": '"\x00"'}}
    answer = streamed(
        delta(content="a\x00b", reasoning="\ud800c", tool_calls=[call]), delta("stop", content="\udfff")
    )
    async with model_of(answer) as (asked, _):
        reply = await reply_of(asked, saying("hello"))
    assert (reply.text, reply.reasoning) == ("a\ufffdb\ufffd", "\ufffdc")
    assert reply.tool_calls[0].arguments_json == '"\ufffd"'
