"""Connections to whichever of the servers of a URL answers, each asked for a time of its own."""

from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

import asyncpg

if TYPE_CHECKING:
    Own = asyncpg.Connection[asyncpg.Record]
else:
    Own = asyncpg.Connection

# For each server: one that has vanished is not to use up the time of the next one.
CONNECT_SECONDS = 5.0
GOODBYE_SECONDS = 1.0

# A holder of a row lock that stops in the middle loses it before those who wait for it give up.
_SESSION_SETTINGS = {
    "application_name": "spark",
    "statement_timeout": "12s",
    "lock_timeout": "10s",
    "idle_in_transaction_session_timeout": "8s",
}


class _Connection(Own):
    """Says goodbye, but does not wait for long until a server that has vanished takes notice."""

    async def close(self, *, timeout: float | None = None) -> None:  # noqa: ASYNC109 - the driver's
        with suppress(TimeoutError):
            await super().close(timeout=GOODBYE_SECONDS)


class Servers:
    """The driver alone would share one time among all of them, and would always begin with the first."""

    def __init__(self, url: str, connect_seconds: float = CONNECT_SECONDS) -> None:
        """A URL goes to the driver unchanged but for the other servers in it."""
        self._urls, self._connect_seconds = _one_by_one(url), connect_seconds

    async def connect(self, command_seconds: float | None, **settings: str) -> Own:
        """Ask the server that answered last, then the others. Raises what the driver raises of the last."""
        errors: list[Exception] = []
        for url in self._urls:
            try:
                connection = await asyncpg.connect(
                    url,
                    timeout=self._connect_seconds,
                    command_timeout=command_seconds,
                    connection_class=_Connection,
                    server_settings=_SESSION_SETTINGS | settings,
                )
            except (
                OSError,
                asyncpg.CannotConnectNowError,
                asyncpg.TargetServerAttributeNotMatched,
            ) as error:
                errors.append(error)
            else:
                self._urls = [url, *(other for other in self._urls if other != url)]
                return connection
        raise errors[-1]


def _one_by_one(url: str) -> list[str]:
    parts = urlsplit(url)
    login, at, servers = parts.netloc.rpartition("@")
    if "," not in servers:
        return [url]
    return [urlunsplit(parts._replace(netloc=f"{login}{at}{server}")) for server in servers.split(",")]
