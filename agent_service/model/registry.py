"""The models that sessions may name."""

from agent_service.errors import ConfigNotFound
from agent_service.model.demo import DemoModel
from agent_service.model.openai import MAX_REPLY_BYTES, OpenAIModel
from agent_service.model.protocol import Model
from agent_service.settings import Config

DEMO = "demo"


class Models:
    """Every configured model and the demo, by name."""

    def __init__(self, config: Config, demo_pace: float, max_reply_bytes: int = MAX_REPLY_BYTES) -> None:
        """Raises SettingsError."""
        self._servers = {
            name: OpenAIModel(table, max_reply_bytes=max_reply_bytes) for name, table in config.models.items()
        }
        self._all: dict[str, Model] = {**self._servers, DEMO: DemoModel(demo_pace)}

    @property
    def names(self) -> tuple[str, ...]:
        """The first is the one that an empty name means."""
        return tuple(self._all)

    def named(self, name: str) -> Model:
        """Raises ConfigNotFound."""
        try:
            return self._all[name or self.names[0]]
        except KeyError:
            raise ConfigNotFound("model", name, self.names) from None

    async def close(self) -> None:
        for server in self._servers.values():
            await server.close()
