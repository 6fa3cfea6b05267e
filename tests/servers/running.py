"""Servers of the tests as processes."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LLAMA = Path(__file__).parent / "llama.py"


@contextmanager
def llama_server(*arguments: str) -> Iterator[str]:
    """Serve the tiny model, and give the address."""
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
