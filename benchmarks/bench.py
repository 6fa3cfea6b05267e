"""Where benchmarks run."""

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import asyncpg

from benchmarks.figures import Size

Number = TypeVar("Number", int, float)


@dataclass(frozen=True, slots=True)
class Bench:
    """A PostgreSQL of their own, and a directory for what processes log. In a smoke run nothing is measured:
    it only shows that everything works."""

    postgres_url: str
    directory: Path
    smoke: bool

    def size(self, pairs: int, blocks: int = 9) -> Size:
        return Size(blocks=1, pairs=1) if self.smoke else Size(blocks, pairs)

    def choose(self, usual: Number, smoke: Number) -> Number:
        return smoke if self.smoke else usual

    async def new_database(self, name: str) -> str:
        """The URL of an empty database."""
        connection = await asyncpg.connect(self.postgres_url)
        await connection.execute(f'CREATE DATABASE "{name}"')
        await connection.close()
        return self.database_url(name)

    def database_url(self, name: str) -> str:
        return self.postgres_url.replace("/postgres?", f"/{name}?")
