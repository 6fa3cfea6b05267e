import pytest

from agent_service.errors import ConfigNotFound
from agent_service.model.demo import DemoModel
from agent_service.model.registry import Models
from agent_service.settings import Config, ModelConfig


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
