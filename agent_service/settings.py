"""Settings: the environment (and `.env`) for the process, `spark.toml` for what sessions may use.

A malformed value or an unknown key of spark.toml stops the start with a message that names it.
"""

import os
import re
import socket
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX = "SPARK_"


def _host_and_port(address: str) -> str:
    host, _, port = address.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError("must be HOST:PORT")
    return address


Address = Annotated[str, AfterValidator(_host_and_port)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
# What a command and its environment can be made of.
Argument = Annotated[str, Field(pattern=r"^[^\x00]*$")]
Variable = Annotated[str, Field(pattern=r"^[^\x00=]+$")]
Header = Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+$")]

# What no set of tools may be called: the tools that are built in, and all of them together.
BUILT_IN_TOOLS = ("now", "wait", "note", "tell", "built-in")

# Settings of the other processes, which share the environment with this one.
_OF_OTHERS = {"SPARK_GATEWAY_LISTEN", "SPARK_GATEWAY_ADDRESS", "SPARK_AGENT_ADDRESS"}


class SettingsError(Exception):
    """A setting that the process cannot start with. The text names it."""


class ModelConfig(BaseModel):
    """A `[models.NAME]` table: an OpenAI-compatible server."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    base_url: str = Field(pattern=r"^https?://")
    model: str = ""
    api_key_env: str = ""
    context_window: PositiveInt | None = None
    placement: Literal["auto", "system", "user", "tool", "text"] = "auto"


class ToolConfig(BaseModel):
    """A `[tools.NAME]` table: an MCP server, which is a command that speaks over stdio, or a URL."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    command: tuple[Argument, ...] = ()
    url: str = Field(default="", pattern=r"^(https?://.+)?$")
    env: dict[Variable, Argument] = Field(default_factory=dict)
    # Their values are in these variables of the environment: no secret is in the file.
    headers_env: dict[Header, Variable] = Field(default_factory=dict)
    # Each call says for which session it is.
    share_session_id: bool = False
    timeout_seconds: Seconds | None = None
    # By an interrupt with immediate delivery.
    cancellable: bool = True

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if bool(self.command) == bool(self.url):
            raise ValueError("either command or url is needed, and not both")
        if self.url and self.env:
            raise ValueError("env goes with command")
        if self.command and self.headers_env:
            raise ValueError("headers_env goes with url")
        return self


class Config(BaseModel):
    """spark.toml: what sessions refer to by name."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    models: dict[str, ModelConfig] = Field(default_factory=dict)
    tools: dict[str, ToolConfig] = Field(default_factory=dict)

    @field_validator("models")
    @classmethod
    def _demo_is_built_in(cls, models: dict[str, ModelConfig]) -> dict[str, ModelConfig]:
        if "demo" in models:
            raise ValueError("the name demo is taken by the built-in model")
        return models

    @field_validator("tools")
    @classmethod
    def _names_of_sets(cls, tools: dict[str, ToolConfig]) -> dict[str, ToolConfig]:
        for name in tools:
            # The name of each tool of a set begins with the set's and the first underscore in it.
            if not re.fullmatch(r"[a-z][a-z0-9-]{0,31}", name):
                raise ValueError(
                    f"the name {name!r} is not a small letter and up to 31 small letters, figures and hyphens"
                )
            if name in BUILT_IN_TOOLS:
                raise ValueError(f"the name {name} is taken by a built-in tool")
        return tools


class Settings(BaseSettings):
    """The agent service's environment. Each field is the variable SPARK_ and its name in capitals."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True
    )

    database_url: str = ""
    data_dir: Path = Path("~/.local/share/spark")
    agent_listen: Address = "127.0.0.1:50051"
    advertise_address: Address | None = None
    lease_seconds: Seconds = 10
    poll_seconds: Seconds = 1
    max_sessions: PositiveInt = 1000
    drain_seconds: Seconds = 10
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    insecure_listen: bool = False
    config: Path | None = None
    demo_pace: float = Field(default=1, ge=0, allow_inf_nan=False)

    max_text_bytes: PositiveInt = 16 * 1024
    max_data_bytes: PositiveInt = 16 * 1024
    max_pending: PositiveInt = 1000
    max_pending_per_source: PositiveInt = 250
    max_tool_output_bytes: PositiveInt = 256 * 1024
    max_reply_bytes: PositiveInt = 1024 * 1024
    tool_timeout_seconds: Seconds = 300

    @field_validator("log_level", mode="before")
    @classmethod
    def _any_case(cls, level: str) -> str:
        return level.lower()


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of the contract, each with the setting that an error names."""

    max_text_bytes: int
    max_data_bytes: int
    max_pending: int
    max_pending_per_source: int


def limits(settings: Settings) -> Limits:
    return Limits(
        settings.max_text_bytes,
        settings.max_data_bytes,
        settings.max_pending,
        settings.max_pending_per_source,
    )


def advertised(settings: Settings, address: str) -> str:
    """Where other replicas find one that listens at an address."""
    host, _, port = address.rpartition(":")
    everywhere = host in ("0.0.0.0", "[::]")  # noqa: S104
    return settings.advertise_address or (f"{socket.gethostname()}:{port}" if everywhere else address)


def load() -> tuple[Settings, Config]:
    """Read both. Raises SettingsError."""
    try:
        settings = Settings()
    except ValidationError as error:
        raise SettingsError(_first_problem(error, env=True)) from None
    if not settings.config:
        return settings, Config()
    try:
        return settings, Config.model_validate(tomllib.loads(settings.config.expanduser().read_text()))
    except ValidationError as error:
        raise SettingsError(f"{settings.config}: {_first_problem(error)}") from None
    except OSError as error:
        raise SettingsError(f"SPARK_CONFIG: {settings.config}: {error.strerror}") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"SPARK_CONFIG: {settings.config}: not TOML: {error}") from None


def unknown_variables() -> list[str]:
    """Variables of the environment that look like settings and are none."""
    known = {PREFIX + name.upper() for name in Settings.model_fields} | _OF_OTHERS
    return sorted(name for name in os.environ if name.startswith(PREFIX) and name not in known)


def _first_problem(error: ValidationError, env: bool = False) -> str:
    problem = error.errors()[0]
    name = ".".join(str(part) for part in problem["loc"])
    said = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        return f"unknown key {name}"
    return f"{PREFIX + name.upper() if env else name}: {said}"
