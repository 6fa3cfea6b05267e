"""The prompt that a server makes, as different servers show it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from agent_service.domain import RoundFailure
from agent_service.model import ModelError, Request
from agent_service.model.openai import OpenAIModel
from agent_service.settings import ModelConfig
from tests.model.scripted_server import Received, ScriptedServer, answered, serving
from tests.model.support import NOW, saying

NOT_FOUND = answered(404, {"error": {"message": "File Not Found"}})
REFUSED = answered(500, {"error": {"message": "System message must be at the beginning."}})
TOKENS = [1, 2, 3]


@dataclass
class Server(ScriptedServer):
    """Shows what it is given in one of the ways; refuses what has some word in it."""

    way: str = ""
    refuses: str = "late"
    shown: str = ""

    def answer_to(self, asked: Received) -> str:
        if messages := asked.body.get("messages"):
            self.shown = f"<s>{messages}"
        if self.refuses in self.shown:
            return REFUSED
        body = asked.body
        match self.way, asked.path:
            case "llama.cpp", "/apply-template":
                return answered(200, {"prompt": self.shown})
            case ("vLLM", "/tokenize") | ("SGLang", "/v1/tokenize"):
                return answered(200, {"tokens": TOKENS, "count": len(TOKENS)})
            case "vLLM", "/detokenize" if body["tokens"] == TOKENS:
                return answered(200, {"prompt": self.shown})
            case "SGLang", "/v1/detokenize" if body["tokens"] == TOKENS and not body["skip_special_tokens"]:
                return answered(200, {"text": self.shown})
            case "Ollama", "/api/chat" if body["_debug_render_only"] and not body["stream"]:
                return answered(200, {"_debug_info": {"rendered_template": self.shown}})
            case "old Ollama", "/api/chat" if body["options"] == {"num_predict": 1}:
                return answered(200, {"message": {"content": "Is anybody there? Yes."}})
            case "web page", _:
                return answered(200, "<html>Welcome</html>")
            case "something else", _:
                return answered(200, {"prompt": "Hello", "tokens": "three"})
            case "loading", _:
                return answered(503, {"error": {"message": "Loading model"}})
            case _:
                return NOT_FOUND

    @property
    def paths(self) -> list[str]:
        return [asked.path for asked in self.received]


@asynccontextmanager
async def behind(way: str) -> AsyncIterator[tuple[OpenAIModel, Server]]:
    server = Server([], way=way)
    async with serving(server):
        model = OpenAIModel(ModelConfig(base_url=server.url, model="m"))
        try:
            yield model, server
        finally:
            await model.close()


@pytest.mark.parametrize("way", ["llama.cpp", "vLLM", "SGLang", "Ollama"])
async def test_the_prompt_is_what_the_server_makes_of_messages_and_tools(way: str) -> None:
    async with behind(way) as (model, server):
        prompt = await model.render(saying("hello", NOW))
    assert prompt == server.shown
    assert "hello" in prompt
    asked = next(one.body for one in reversed(server.received) if "messages" in one.body)
    assert [tool["function"]["name"] for tool in asked["tools"]] == ["now"]
    assert asked["model"] == "m"


@pytest.mark.parametrize(
    ("way", "again"),
    [
        ("llama.cpp", ["/apply-template"]),
        ("vLLM", ["/tokenize", "/detokenize"]),
        ("SGLang", ["/v1/tokenize", "/v1/detokenize"]),
        ("Ollama", ["/api/chat"]),
    ],
)
async def test_the_way_is_looked_for_once(way: str, again: list[str]) -> None:
    async with behind(way) as (model, server):
        await model.render(saying("hello"))
        asked = len(server.received)
        await model.render(saying("hello"))
    assert server.paths[asked:] == again


@pytest.mark.parametrize("way", ["", "web page", "something else", "old Ollama"])
async def test_a_server_that_shows_nothing_is_not_asked_again(way: str) -> None:
    async with behind(way) as (model, server):
        assert await model.render(saying("hello")) is None
        asked = len(server.received)
        assert await model.render(saying("hello")) is None
    assert len(server.received) == asked


async def test_a_server_that_cannot_answer_now_is_asked_again() -> None:
    async with behind("loading") as (model, server):
        with pytest.raises(ModelError) as raised:
            await model.render(saying("hello"))
        server.way = "llama.cpp"
        assert await model.render(saying("hello")) == server.shown
    assert raised.value.reason is RoundFailure.MODEL_UNAVAILABLE
    assert not raised.value.blames_request


async def test_a_server_that_is_not_there_is_told_as_such() -> None:
    model = OpenAIModel(ModelConfig(base_url="http://127.0.0.1:1/v1", model="m"))
    with pytest.raises(ModelError) as raised:
        await model.render(saying("hello"))
    assert raised.value.reason is RoundFailure.MODEL_UNAVAILABLE
    await model.close()


@pytest.mark.parametrize("way", ["llama.cpp", "vLLM", "SGLang", "Ollama"])
async def test_a_refusal_of_the_template_is_one_of_the_request(way: str) -> None:
    async with behind(way) as (model, _):
        await model.render(saying("hello"))
        with pytest.raises(ModelError) as raised:
            await model.render(saying("too late"))
    assert raised.value.blames_request
    assert raised.value.detail.endswith("System message must be at the beginning.")


async def test_ollama_gets_the_arguments_of_calls_as_objects() -> None:
    function = {"name": "now", "arguments": '{"tz": "UTC"}'}
    call = {"id": "a", "type": "function", "function": function}
    messages = [*saying("hello").messages, {"role": "assistant", "content": "", "tool_calls": [call]}]
    async with behind("Ollama") as (model, server):
        await model.render(Request(messages))
    (sent,) = server.received[-1].body["messages"][-1]["tool_calls"]
    assert sent["function"] == {"name": "now", "arguments": {"tz": "UTC"}}
