"""What is known of models: asked once, kept for all replicas, and never waited for long."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field

import pytest

from agent_service.domain import Evidence, JsonObject, Placement, Profile, RoundFailure
from agent_service.loop.profiles import Profiles
from agent_service.model import Chunk, ModelError, Request, Served
from agent_service.store.model_profiles import ModelProfiles
from tests.support import Store

Template = Callable[[list[JsonObject]], str]

AUTO = Served("http://a/v1", "qwen3", None)
# The requests that tell one template from another.
ONCE = len(Placement)
REFUSAL = ModelError(RoundFailure.MODEL_REFUSED, "400: no system message here", status=400)


def chatml(messages: list[JsonObject]) -> str:
    """Every message in its place, calls as they are."""
    return "".join(
        f"<|im_start|>{message['role']}\n{message.get('reasoning_content', '')}{message['content']}"
        f"{message.get('tool_calls', '')}<|im_end|>\n"
        for message in messages
    )


def refusing(messages: list[JsonObject]) -> str:
    if any(message["role"] == "system" for message in messages[1:]):
        raise REFUSAL
    return chatml(messages)


def dropping(messages: list[JsonObject]) -> str:
    return chatml([messages[0], *(message for message in messages[1:] if message["role"] != "system")])


def moving(messages: list[JsonObject]) -> str:
    return chatml(sorted(messages, key=lambda message: message["role"] != "system"))


@dataclass
class Server:
    """A model whose server shows its prompts."""

    template: Template = chatml
    served: Served = AUTO
    silent: bool = False
    asked: list[Request] = field(default_factory=list)

    async def render(self, request: Request) -> str | None:
        self.asked.append(request)
        if self.silent:
            await asyncio.Event().wait()
        tools = " ".join(f"{tool.name}: {tool.description}" for tool in request.tools)
        return tools + self.template(list(request.messages))

    async def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        yield Chunk()

    async def context_window(self) -> int | None:
        return None


def profiles(store: Store, server: Server, max_seconds: float = 30) -> Profiles:
    return Profiles(lambda name: server, ModelProfiles(store.database), max_seconds)


@pytest.mark.parametrize(
    ("template", "placement"),
    [
        (chatml, Placement.SYSTEM),
        (refusing, Placement.USER),
        (dropping, Placement.USER),
        (moving, Placement.USER),
    ],
)
async def test_a_server_that_shows_its_prompts_is_judged_by_them(
    store: Store, template: Template, placement: Placement
) -> None:
    found = profiles(store, Server(template))
    await found.learn(["local"])
    assert found.known("local") == Profile(placement)
    check = await found.check("local")
    assert check.finding
    assert (check.finding.evidence, check.failure) == (Evidence.RENDERED, "")


async def test_what_one_replica_found_out_another_does_not_ask_again(store: Store) -> None:
    await profiles(store, Server(refusing)).learn(["local"])
    server = Server(refusing)
    other = profiles(store, server)
    await other.learn(["local"])
    assert other.known("local") == Profile(Placement.USER)
    assert len(server.asked) == ONCE


async def test_another_template_is_another_model(store: Store) -> None:
    await profiles(store, Server(refusing)).learn(["local"])
    other = profiles(store, Server(lambda messages: chatml(messages).replace("im_", "turn_")))
    await other.learn(["local"])
    assert other.known("local") == Profile(Placement.SYSTEM)


async def test_what_is_configured_is_not_asked(store: Store) -> None:
    server = Server(served=Served("http://a/v1", "qwen3", Placement.TEXT))
    configured = profiles(store, server)
    await configured.learn(["local"])
    assert configured.known("local") == Profile(Placement.TEXT)
    assert server.asked == []


async def test_a_silent_server_is_waited_for_once_and_nothing_is_made_up(store: Store) -> None:
    server = Server(silent=True)
    waiting = profiles(store, server, max_seconds=0.1)
    await waiting.learn(["local"])
    await waiting.learn(["local"])
    assert len(server.asked) == ONCE
    assert waiting.known("local") is None


async def test_a_step_down_is_remembered_for_all(store: Store) -> None:
    first = profiles(store, Server(chatml))
    await first.learn(["local"])
    lower = await first.lower("local", Profile(Placement.SYSTEM))
    assert lower == first.known("local") == Profile(Placement.USER)
    other = profiles(store, Server(chatml))
    await other.learn(["local"])
    assert other.known("local") == Profile(Placement.USER)
