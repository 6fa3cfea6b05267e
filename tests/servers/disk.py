"""A disk of a test's own, small enough to be filled."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

# Of zeros at a time.
_PIECE = bytes(64 * 1024)


@dataclass(frozen=True)
class Disk:
    path: Path

    @contextmanager
    def full(self) -> Iterator[None]:
        """Without a byte of room until this is left."""
        filler = self.path / "filler"
        try:
            with filler.open("wb", buffering=0) as file:
                while True:
                    file.write(_PIECE)
        except OSError:
            yield
        finally:
            filler.unlink()


@contextmanager
def small_disk(directory: Path, mebibytes: int) -> Iterator[Disk]:
    """In memory, at a new directory. Skips the test where that may not be mounted."""
    directory.mkdir()
    options = f"size={mebibytes}m,mode=755"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", directory], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no disk of its own: {mounted.stderr.strip()}")
    try:
        yield Disk(directory)
    finally:
        subprocess.run(["umount", "--lazy", directory], check=True)
