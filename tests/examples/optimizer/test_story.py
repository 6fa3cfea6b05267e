"""The story, with the real services."""

import asyncio
import os
import sys

import pytest


@pytest.mark.parametrize("options", [(), ("--kill",)], ids=["undisturbed", "killed"])
async def test_an_agent_is_woken_by_the_end_of_its_job(database_url: str, options: tuple[str, ...]) -> None:
    others = {name: value for name, value in os.environ.items() if not name.startswith("SPARK_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "examples.optimizer.story", *options),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**others, "SPARK_DATABASE_URL": database_url},
    )
    out, err = await process.communicate()
    assert (process.returncode, err.decode()) == (0, ""), out.decode()
    assert out.decode().splitlines()[-1] == "story: ok"
