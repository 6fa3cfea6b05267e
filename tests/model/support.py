"""What the tests of models share."""

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest

from agent_service.model import Chunk, Model, ModelError, Reply, ReplyFold, Request, ToolSpec
from agent_service.model.openai import MAX_REPLY_BYTES, OpenAIModel
from agent_service.settings import ModelConfig
from tests.model.scripted_server import ScriptedServer, scripted

NOW = ToolSpec(
    "now",
    "Tells the time.",
    {"type": "object", "properties": {"tz": {"type": "string"}}, "required": ["tz"]},
)
NOTE = ToolSpec(
    "note",
    "Writes into the log.",
    {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
)


def saying(text: str, *tools: ToolSpec) -> Request:
    return Request(
        [{"role": "system", "content": "You are an agent."}, {"role": "user", "content": text}], tools
    )


async def chunks_of(model: Model, request: Request) -> list[Chunk]:
    async with aclosing(model.stream(request)) as stream:
        return [chunk async for chunk in stream]


async def reply_of(model: Model, request: Request) -> Reply:
    fold = ReplyFold()
    for chunk in await chunks_of(model, request):
        fold.add(chunk)
    return fold.reply()


@asynccontextmanager
async def model_of(
    *answers: str,
    model: str = "m",
    api_key_env: str = "",
    stays_open: bool = False,
    max_reply_bytes: int = MAX_REPLY_BYTES,
    read_timeout_seconds: float = 10,
) -> AsyncIterator[tuple[OpenAIModel, ScriptedServer]]:
    """A model behind a server that gives these answers, and that server."""
    async with scripted(*answers, stays_open=stays_open) as server:
        asked = OpenAIModel(
            ModelConfig(base_url=server.url, model=model, api_key_env=api_key_env),
            max_reply_bytes=max_reply_bytes,
            read_timeout_seconds=read_timeout_seconds,
            end_timeout_seconds=0.1,
        )
        try:
            yield asked, server
        finally:
            await asked.close()


async def answer_of(*answers: str) -> Reply:
    """The reply that a server's answers make."""
    async with model_of(*answers) as (asked, _):
        return await reply_of(asked, saying("hello"))


async def failure_of(*answers: str, **how: object) -> tuple[list[Chunk], ModelError]:
    """What a request yields, and the error that ends it."""
    chunks: list[Chunk] = []
    async with model_of(*answers, **how) as (asked, _):
        try:
            async for chunk in asked.stream(saying("hello")):
                chunks.append(chunk)
        except ModelError as error:
            return chunks, error
    pytest.fail("the request did not fail")
