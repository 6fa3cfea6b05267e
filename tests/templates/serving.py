"""A chat template in the hands of a real server: llama.cpp's."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2

from agent_service.domain import RoundFailure
from agent_service.model import ModelError, Request, wire
from tests.servers.running import llama_server


@dataclass(frozen=True)
class Served:
    client: httpx2.Client

    def prompt(self, request: Request) -> str:
        """Raises ModelError where the server refuses the request."""
        body = wire.conversation("tiny", request)
        response = self.client.post("/apply-template", json=body)
        if response.status_code != 200:
            raise ModelError(RoundFailure.MODEL_REFUSED, response.text, status=response.status_code)
        return response.json()["prompt"]

    async def render(self, request: Request) -> str:
        return self.prompt(request)


@contextmanager
def served(template: Path) -> Iterator[Served]:
    with (
        llama_server("--template", str(template)) as address,
        httpx2.Client(base_url=f"http://{address}", timeout=30) as client,
    ):
        yield Served(client)
