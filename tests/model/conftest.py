"""Real model servers, each a process of its own."""

from collections.abc import Iterator

import pytest

from tests.servers.running import llama_server


@pytest.fixture(scope="module")
def llama() -> Iterator[str]:
    """The address of a server with the tiny model."""
    with llama_server() as address:
        yield address


@pytest.fixture(scope="module")
def endless_llama() -> Iterator[str]:
    """The address of one that writes until its client goes away."""
    with llama_server("--endless") as address:
        yield address
