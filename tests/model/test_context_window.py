"""How long the context is, as different servers tell it."""

import asyncio
import socket

import pytest
from openai import AsyncOpenAI

from agent_service.model.context_window import ContextWindow
from agent_service.model.openai import OpenAIModel
from agent_service.settings import ModelConfig
from tests.model.scripted_server import answered
from tests.model.support import model_of

NOT_FOUND = answered(404, {"error": {"message": "File Not Found"}})
TELLS_NOTHING = answered(200, {"data": [{"id": "m"}]})


def offer(*models: dict) -> str:
    return answered(200, {"object": "list", "data": list(models)})


async def windows_of(*answers: str, model: str = "m", asked_times: int = 1) -> tuple[list, list[str]]:
    """What is known at each time of asking, and the paths that the server was asked for."""
    async with model_of(*answers, model=model) as (asked, server):
        told = [await asked.context_window() for _ in range(asked_times)]
    return told, [received.path for received in server.received]


async def test_what_is_configured_is_not_asked_for() -> None:
    model = OpenAIModel(ModelConfig(base_url="http://127.0.0.1:1/v1", context_window=4096))
    assert await model.context_window() == 4096
    await model.close()


@pytest.mark.parametrize("told", [{"max_model_len": 4096}, {"meta": {"n_ctx": 4096, "n_ctx_train": 8192}}])
async def test_the_list_of_models_tells_it_and_is_read_once(told: dict) -> None:
    windows, paths = await windows_of(offer({"id": "m"} | told), asked_times=2)
    assert windows == [4096, 4096]
    assert paths == ["/v1/models"]


async def test_it_is_that_of_the_model_of_this_name_or_of_the_only_one() -> None:
    two = offer({"id": "other", "max_model_len": 1}, {"id": "m", "max_model_len": 4096})
    assert (await windows_of(two))[0] == [4096]
    assert (await windows_of(two, NOT_FOUND, model=""))[0] == [None]
    only = offer({"id": "alias", "max_model_len": 4096})
    assert (await windows_of(only))[0] == [4096]
    assert (await windows_of(only, model=""))[0] == [4096]


@pytest.mark.parametrize("silent", [NOT_FOUND, TELLS_NOTHING, offer({"id": "m", "meta": None})])
async def test_the_properties_at_the_root_tell_it_where_the_list_does_not(silent: str) -> None:
    props = answered(200, {"default_generation_settings": {"n_ctx": 4096}})
    windows, paths = await windows_of(silent, props, asked_times=2)
    assert windows == [4096, 4096]
    assert paths == ["/v1/models", "/props"]


@pytest.mark.parametrize(
    "answer",
    [
        NOT_FOUND,
        TELLS_NOTHING,
        answered(401, {"error": {"message": "No."}}),
        answered(200, "<html>Welcome</html>"),
        answered(200, "{"),
        answered(200, {"data": "none"}),
        offer({"id": "m", "max_model_len": 0}),
        offer({"id": "m", "max_model_len": "long"}),
    ],
)
async def test_a_server_that_answers_without_telling_is_not_asked_again(answer: str) -> None:
    windows, paths = await windows_of(answer, asked_times=2)
    assert windows == [None, None]
    assert paths == ["/v1/models", "/props"]


@pytest.mark.parametrize("answer", ["", answered(503, {"error": {"message": "Loading model"}})])
async def test_a_server_that_cannot_answer_now_is_asked_again(answer: str) -> None:
    windows, _ = await windows_of(answer, offer({"id": "m", "max_model_len": 4096}), asked_times=2)
    assert windows == [None, 4096]


async def test_a_server_that_never_answers_is_not_waited_for() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        async with AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
            window = ContextWindow(client, None, max_seconds=0.05)
            async with asyncio.timeout(10):
                assert await asyncio.gather(*[window.tokens("m") for _ in range(3)]) == [None] * 3


async def test_those_who_ask_at_the_same_time_ask_once() -> None:
    async with model_of(offer({"id": "m", "max_model_len": 4096})) as (asked, server):
        assert await asyncio.gather(*[asked.context_window() for _ in range(5)]) == [4096] * 5
    assert len(server.received) == 1
