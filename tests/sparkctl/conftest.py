"""The scripted services, this program's connections to them, and child processes that only play services."""

import os
from collections.abc import AsyncIterator
from textwrap import dedent

import pytest

from sparkctl.connections import AgentService, Gateway, agent_service, gateway
from tests.sparkctl.scripted import Scripted, scripted_services

# Says where it listens, and writes down when it stops.
CHILD = """
    import os, signal, sys

    name = {name!r}
    def stop(*_):
        print(name, "stops", file=open("stopped", "a"))
        sys.exit(0)

    signal.signal(signal.SIGTERM, stop)
    print("about", os.environ.get("SPARK_AGENT_ADDRESS", "itself"), file=sys.stderr, flush=True)
    {first}
    print("listening", name + ":1", flush=True)
    print("and more", flush=True)
    while True:
        signal.pause()
"""


@pytest.fixture
async def scripted() -> AsyncIterator[Scripted]:
    async with scripted_services() as services:
        yield services


@pytest.fixture
async def agent(scripted: Scripted) -> AsyncIterator[AgentService]:
    async with agent_service(scripted.address) as connection:
        yield connection


@pytest.fixture
async def door(scripted: Scripted) -> AsyncIterator[Gateway]:
    async with gateway(scripted.address) as connection:
        yield connection


@pytest.fixture
def children(tmp_path, monkeypatch):
    """Writes the programs, which do `first` before they listen, and gives the environment for them."""
    monkeypatch.chdir(tmp_path)

    def write(**first):
        for name in ("agent_service", "gateway"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "__init__.py").touch()
            program = dedent(CHILD).format(name=name, first=first.get(name, ""))
            (tmp_path / name / "__main__.py").write_text(program)
        return {name: value for name, value in os.environ.items() if not name.startswith("SPARK_")}

    return write
