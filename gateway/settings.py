"""Settings: the environment and `.env`. A malformed value stops the start with a message that names it."""

import ipaddress
import os
from typing import Literal, Self

from pydantic import PositiveFloat, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX = "SPARK_"


class SettingsError(Exception):
    """A setting that the process cannot start with. The text names it."""


class Settings(BaseSettings):
    """The gateway's environment. Each field is the variable SPARK_ and its name in capitals."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_file=".env", extra="ignore", frozen=True)

    gateway_listen: str = "127.0.0.1:50050"
    agent_address: str = "127.0.0.1:50051"
    drain_seconds: PositiveFloat = 10
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    insecure_listen: bool = False

    @field_validator("log_level", mode="before")
    @classmethod
    def _any_case(cls, level: str) -> str:
        return level.lower()

    @field_validator("gateway_listen")
    @classmethod
    def _host_and_port(cls, listen: str) -> str:
        host, _, port = listen.rpartition(":")
        if not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
            raise ValueError("must be HOST:PORT")
        return listen

    @field_validator("agent_address")
    @classmethod
    def _one_target(cls, address: str) -> str:
        if not address:
            raise ValueError("must be a gRPC target, for example 127.0.0.1:50051 or dns:///agent:50051")
        if "," in address and not address.startswith(("ipv4:", "ipv6:")):
            raise ValueError("several addresses are written ipv4:10.0.0.1:50051,10.0.0.2:50051")
        return address

    @model_validator(mode="after")
    def _loopback_unless_told(self) -> Self:
        if not self.insecure_listen and not _is_loopback(self.listen_host):
            raise ValueError(
                f"{PREFIX}GATEWAY_LISTEN: {self.gateway_listen} is not loopback, and callers have no"
                f" identity; {PREFIX}INSECURE_LISTEN=1 allows it"
            )
        return self

    @property
    def listen_host(self) -> str:
        """The host as it stands in an address, an IPv6 one in brackets."""
        return self.gateway_listen.rpartition(":")[0]


def load() -> Settings:
    """Raises SettingsError."""
    try:
        return Settings()
    except ValidationError as error:
        raise SettingsError(_first_problem(error)) from None


def unused_variables() -> list[str]:
    """Variables of the environment that look like settings and mean nothing to the gateway."""
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    return sorted(name for name in os.environ if name.startswith(PREFIX) and name not in known)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    said = problem["msg"].removeprefix("Value error, ")
    return ": ".join([PREFIX + str(name).upper() for name in problem["loc"]] + [said])
