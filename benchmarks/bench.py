"""Where benchmarks run."""

from dataclasses import dataclass
from pathlib import Path

import asyncpg

from benchmarks.figures import Size


@dataclass(frozen=True, slots=True)
class Bench:
    """A PostgreSQL of their own, and a directory for what processes log. In a smoke run nothing is measured:
    it only shows that everything works."""

    postgres_url: str
    directory: Path
    smoke: bool

    def size(self, pairs: int, blocks: int = 9) -> Size:
        return Size(blocks=2, pairs=1) if self.smoke else Size(blocks, pairs)

    def count(self, count: int, smoke: int) -> int:
        """How many of something there are, in a smoke run so many."""
        return smoke if self.smoke else count

    async def new_database(self, name: str) -> str:
        """The URL of an empty database."""
        connection = await asyncpg.connect(self.postgres_url)
        await connection.execute(f'CREATE DATABASE "{name}"')
        await connection.close()
        return self.postgres_url.replace("/postgres?", f"/{name}?")
