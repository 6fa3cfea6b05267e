"""The OpenAI model against llama.cpp's own server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from json import loads

import httpx2
import pytest

from agent_service.domain import RoundFailure
from agent_service.model import ModelError, Request
from agent_service.model.openai import OpenAIModel
from agent_service.settings import ModelConfig
from tests.model.support import NOW, chunks_of, reply_of, saying


@asynccontextmanager
async def model_at(address: str, path: str = "/v1") -> AsyncIterator[OpenAIModel]:
    model = OpenAIModel(ModelConfig(base_url=f"http://{address}{path}"))
    try:
        yield model
    finally:
        await model.close()


async def until_slots_are(busy: bool, address: str) -> None:
    async with httpx2.AsyncClient() as client, asyncio.timeout(20):
        while True:
            slots = loads((await client.get(f"http://{address}/slots")).text)
            if any(slot["is_processing"] for slot in slots) == busy:
                return
            await asyncio.sleep(0.02)


async def test_text_comes_in_pieces_and_ends_with_the_usage(llama: str) -> None:
    async with model_at(llama) as model:
        chunks = await chunks_of(model, saying("hello"))
    assert "".join(chunk.text for chunk in chunks) == "I keep working."
    assert sum(1 for chunk in chunks if chunk.text) > 1
    usage = chunks[-1].usage
    assert usage
    assert usage.input_tokens > 10
    assert usage.output_tokens >= 3
    assert not chunks[-1].begun
    assert all(chunk.begun for chunk in chunks[:-1])


async def test_a_tool_call_comes_with_its_name_first_and_adds_up_to_json(llama: str) -> None:
    async with model_at(llama) as model:
        chunks = await chunks_of(model, saying("what time is it", NOW))
        reply = await reply_of(model, saying("what time is it", NOW))
    pieces = [piece for chunk in chunks for piece in chunk.tool_calls]
    assert pieces[0].name == "now"
    assert len(pieces) > 2
    [call] = reply.tool_calls
    assert call.name == "now"
    assert loads(call.arguments_json) == {"tz": "UTC"}


async def test_a_tool_response_and_a_late_system_message_reach_the_model(llama: str) -> None:
    asked = saying("what time is it", NOW)
    call = {"id": "a", "type": "function", "function": {"name": "now", "arguments": '{"tz": "UTC"}'}}
    answered = [
        *asked.messages,
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "a", "content": "12:00"},
    ]
    interrupted = [*answered, {"role": "system", "content": "[operator] nudge"}]
    async with model_at(llama) as model:
        assert (await reply_of(model, Request(answered, asked.tools))).text == "The tool answered."
        assert (await reply_of(model, Request(interrupted, asked.tools))).text == "I have seen the nudge."


async def test_a_request_longer_than_the_context_is_told_as_such(llama: str) -> None:
    async with model_at(llama) as model:
        with pytest.raises(ModelError) as raised:
            await chunks_of(model, saying("word " * 20_000))
    assert raised.value.reason is RoundFailure.CONTEXT_OVERFLOW
    assert raised.value.detail.startswith("the model server answered 400: ")


async def test_the_context_window_is_that_of_one_slot(llama: str) -> None:
    async with model_at(llama) as model, httpx2.AsyncClient() as client:
        slots = loads((await client.get(f"http://{llama}/slots")).text)
        assert await model.context_window() == slots[0]["n_ctx"]


async def test_a_wrong_path_is_refused(llama: str) -> None:
    async with model_at(llama, path="/nowhere") as model:
        with pytest.raises(ModelError) as raised:
            await chunks_of(model, saying("hello"))
    assert raised.value.reason is RoundFailure.MODEL_REFUSED
    assert raised.value.detail.endswith("table in spark.toml): File Not Found")


async def test_closing_the_stream_stops_the_server(endless_llama: str) -> None:
    async with model_at(endless_llama) as model:
        async with aclosing(model.stream(saying("hello"))) as stream:
            await anext(stream)
            await until_slots_are(busy=True, address=endless_llama)
        await until_slots_are(busy=False, address=endless_llama)


async def test_cancelling_the_reader_stops_the_server(endless_llama: str) -> None:
    async with model_at(endless_llama) as model:
        reader = asyncio.create_task(chunks_of(model, saying("hello")))
        await until_slots_are(busy=True, address=endless_llama)
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        await until_slots_are(busy=False, address=endless_llama)
