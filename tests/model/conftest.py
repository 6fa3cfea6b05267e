"""Real model servers, each a process of its own."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

LLAMA = Path(__file__).parent.parent / "servers" / "llama.py"


@contextmanager
def llama_server(*arguments: str) -> Iterator[str]:
    command = [sys.executable, str(LLAMA), "--port", "0", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout
            first_line = process.stdout.readline()
            assert first_line.startswith("listening "), first_line
            yield first_line.split()[1]
        finally:
            process.terminate()
            assert process.wait(timeout=10) == 0


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
