"""Settings: the environment and `.env`. A malformed value stops the start with a message that names it."""

import ipaddress
import os
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX = "SPARK_"


class SettingsError(Exception):
    """A setting that the process cannot start with. The text names it."""


class Settings(BaseSettings):
    """The gateway's environment. Each field is the variable SPARK_ and its name in capitals."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True
    )

    gateway_listen: str = "127.0.0.1:50050"
    agent_address: str = "127.0.0.1:50051"
    drain_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 10
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    insecure_listen: bool = False

    @field_validator("log_level", mode="before")
    @classmethod
    def _any_case(cls, level: str) -> str:
        return level.lower()

    @field_validator("gateway_listen")
    @classmethod
    def _host_and_port(cls, listen: str) -> str:
        host, port = _parts(listen)
        if not host or not port:
            raise ValueError("must be HOST:PORT")
        return listen

    @field_validator("agent_address")
    @classmethod
    def _one_target(cls, address: str) -> str:
        # Of what gRPC itself cannot make anything a channel is neither opened nor closed.
        scheme, _, several = address.partition(":")
        if scheme in ("ipv4", "ipv6"):
            for one in several.split(","):
                host, port = _parts(one)
                ip = _ip(host.removeprefix("[").removesuffix("]"))
                if not port or not ip or f"ipv{ip.version}" != scheme:
                    raise ValueError(f"{one!r} is not an address of {scheme} with a port")
        elif "," in address:
            raise ValueError("several addresses are written ipv4:10.0.0.1:50051,10.0.0.2:50051")
        elif not address.removeprefix("dns:").strip("/"):
            raise ValueError("must be a gRPC target, for example 127.0.0.1:50051 or dns:///agent:50051")
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


def _parts(address: str) -> tuple[str, str]:
    """Host and port; no port where it is none."""
    host, _, port = address.rpartition(":")
    return host, port if port.isascii() and port.isdigit() and int(port) <= 65535 else ""


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _is_loopback(host: str) -> bool:
    ip = _ip(host.strip("[]"))
    return ip.is_loopback if ip else host == "localhost"


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    said = problem["msg"].removeprefix("Value error, ")
    return ": ".join([PREFIX + str(name).upper() for name in problem["loc"]] + [said])
