import pytest

from agent_service.errors import ConfigNotFound
from agent_service.model import ModelError
from agent_service.model.demo import DemoModel
from agent_service.model.registry import Models
from agent_service.settings import Config, ModelConfig
from tests.model.scripted_server import delta, scripted, streamed
from tests.model.support import chunks_of, saying


async def test_without_configuration_an_empty_name_means_the_demo() -> None:
    models = Models(Config(), demo_pace=0)
    assert models.names == ("demo",)
    assert isinstance(models.named(""), DemoModel)
    await models.close()


async def test_an_empty_name_means_the_first_configured_model() -> None:
    table = ModelConfig(base_url="http://127.0.0.1:1/v1")
    models = Models(Config(models={"second": table, "first": table}), demo_pace=0)
    assert models.names == ("second", "first", "demo")
    assert models.named("") is models.named("second")
    await models.close()


async def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    models = Models(Config(), demo_pace=0)
    with pytest.raises(ConfigNotFound, match="model 'gpt' is not configured; known: demo"):
        models.named("gpt")
    await models.close()


async def test_the_limit_of_a_reply_is_that_of_every_server() -> None:
    async with scripted(streamed(delta("stop", content="Hello."))) as server:
        table = ModelConfig(base_url=server.url, model="m")
        models = Models(Config(models={"m": table}), demo_pace=0, max_reply_bytes=5)
        with pytest.raises(
            ModelError, match="longer than 5 bytes, the most that SPARK_MAX_REPLY_BYTES allows"
        ):
            await chunks_of(models.named("m"), saying("hello"))
        await models.close()
