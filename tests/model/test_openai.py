"""The OpenAI model against a server that answers as it is told."""

import asyncio
from contextlib import aclosing
from dataclasses import replace

import pytest

from agent_service.domain import RoundFailure, ToolCall
from agent_service.model import Request
from agent_service.model.openai import OpenAIModel
from agent_service.settings import ModelConfig, SettingsError
from tests.model.scripted_server import DONE, answered, delta, event, streamed
from tests.model.support import NOTE, answer_of, chunks_of, failure_of, model_of, reply_of, saying

HELLO = streamed(delta(content="Hello."), delta("stop"), DONE)


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


async def test_a_reply_that_is_wanted_short_is_whole_when_it_is_cut() -> None:
    cut = streamed(delta(content="Hel"), delta("length"), DONE)
    async with model_of(cut) as (asked, server):
        assert (await reply_of(asked, replace(saying("hello"), max_tokens=1))).text == "Hel"
    assert server.received[0].body["max_tokens"] == 1


async def test_without_tools_none_are_mentioned() -> None:
    async with model_of(HELLO) as (asked, server):
        await chunks_of(asked, saying("hello"))
    assert "tools" not in server.received[0].body


async def test_no_connection_is_kept_for_a_server_to_close_under_the_next_request() -> None:
    async with model_of(HELLO) as (asked, server):
        await chunks_of(asked, saying("hello"))
    assert server.received[0].headers["connection"] == "close"


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


@pytest.mark.parametrize("key", ["schlüssel", "two\nlines"])
def test_a_key_that_cannot_be_sent_stops_the_start_and_is_not_told(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_KEY", key)
    with pytest.raises(SettingsError, match="LOCAL_KEY holds what cannot be sent") as raised:
        OpenAIModel(ModelConfig(base_url="http://127.0.0.1:1/v1", api_key_env="LOCAL_KEY"))
    assert key not in str(raised.value)


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


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
async def test_reasoning_is_read_by_either_name(name: str) -> None:
    reply = await answer_of(streamed(delta(**{name: "Hm."}), delta("stop", content="Yes.")))
    assert (reply.reasoning, reply.text) == ("Hm.", "Yes.")


async def test_what_is_null_or_missing_says_nothing() -> None:
    nothing = {"content": None, "reasoning_content": None, "tool_calls": None}
    reply = await answer_of(
        streamed(
            event(choices=[{"delta": {"role": "assistant"}}], usage=None),
            event(choices=[{"delta": nothing, "finish_reason": None}], usage=None),
            event(choices=[{"delta": None}]),
            event(choices=None),
            delta(content="Yes."),
            delta("stop", **nothing),
            event(choices=[], usage=None),
        )
    )
    assert (reply.text, reply.reasoning, reply.tool_calls) == ("Yes.", "", ())


async def test_the_role_alone_is_the_beginning_of_a_reply() -> None:
    async with model_of(streamed(delta(role="assistant"), delta("stop", content="Yes."))) as (asked, _):
        chunks = await chunks_of(asked, saying("hello"))
    assert chunks[0].begun


async def test_a_call_is_a_call_whatever_the_finish_reason_says() -> None:
    call = {"index": 0, "id": "a", "function": {"name": "now", "arguments": "{}"}}
    reply = await answer_of(streamed(delta(tool_calls=[call]), delta("stop"), DONE))
    assert reply.tool_calls == (ToolCall("a", "now", "{}"),)


async def test_what_cannot_be_stored_is_replaced() -> None:
    call = {"index": 0, "id": "a", "function": {"name": "note", "arguments": '"\x00"'}}
    reply = await answer_of(
        streamed(
            delta(content="a\x00b", reasoning="\ud800c", tool_calls=[call]), delta("stop", content="\udfff")
        )
    )
    assert (reply.text, reply.reasoning) == ("a\ufffdb\ufffd", "\ufffdc")
    assert reply.tool_calls[0].arguments_json == '"\ufffd"'


async def test_usage_alone_is_not_the_beginning_of_a_reply() -> None:
    counted = {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 8}}
    answer = streamed(event(usage=counted), delta("stop", content="Yes."), event(choices=[], usage=counted))
    async with model_of(answer) as (asked, _):
        chunks = await chunks_of(asked, saying("hello"))
        reply = await reply_of(asked, saying("hello"))
    assert [chunk.begun for chunk in chunks] == [False, True, False]
    assert (reply.usage.input_tokens, reply.usage.cached_input_tokens, reply.usage.output_tokens) == (9, 8, 2)


@pytest.mark.parametrize("end", ["", DONE, delta("stop") + DONE, event(choices=[], usage=None) * 2])
async def test_a_reply_is_whole_with_its_finish_reason_whatever_follows(end: str) -> None:
    assert (await answer_of(streamed(delta(content="Yes."), delta("stop"), end))).text == "Yes."


async def test_a_server_that_stays_after_the_finish_reason_is_not_waited_for() -> None:
    counted = {"prompt_tokens": 9, "completion_tokens": 2}
    answer = streamed(delta(content="Yes."), delta("stop"), event(choices=[], usage=counted))
    async with model_of(answer, stays_open=True) as (asked, server):
        reply = await reply_of(asked, saying("hello"))
        async with asyncio.timeout(10):
            await server.left.wait()
    assert (reply.text, reply.usage.input_tokens) == ("Yes.", 9)


async def test_a_connection_that_breaks_after_the_finish_reason_does_no_harm() -> None:
    cut = streamed(delta("stop", content="Yes.")).replace("connection: close", "content-length: 100000")
    assert (await answer_of(cut)).text == "Yes."


async def test_a_stream_is_read_whatever_the_server_calls_it() -> None:
    for media_type in ("text/plain", "application/octet-stream", "text/event-stream; charset=utf-8"):
        assert (await answer_of(HELLO.replace("text/event-stream", media_type))).text == "Hello."


async def test_a_reply_without_end_is_cut_at_the_limit_and_its_stream_closed() -> None:
    answer = streamed(*[delta(content="wind ")] * 1000)
    async with model_of(answer, stays_open=True, max_reply_bytes=100) as (asked, server):
        with pytest.raises(Exception, match="longer than 100 bytes"):
            await chunks_of(asked, saying("hello"))
        async with asyncio.timeout(10):
            await server.left.wait()


async def test_closing_the_stream_closes_the_request() -> None:
    async with model_of(streamed(delta(content="Hel")), stays_open=True) as (asked, server):
        async with aclosing(asked.stream(saying("hello"))) as stream:
            await anext(stream)
        async with asyncio.timeout(10):
            await server.left.wait()
