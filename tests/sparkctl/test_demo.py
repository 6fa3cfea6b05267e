"""The demonstration, with the real services."""

import asyncio
import os
import sys

import pytest

WORDS = ("pending", "delivered", "seen")


@pytest.fixture
def environment(database_url):
    others = {name: value for name, value in os.environ.items() if not name.startswith("SPARK_")}
    return {
        **others,
        "SPARK_DATABASE_URL": database_url,
        "SPARK_AGENT_LISTEN": "127.0.0.1:0",
        "SPARK_GATEWAY_LISTEN": "127.0.0.1:0",
        "SPARK_DEMO_PACE": "0.05",
    }


async def test_it_plays_by_itself_where_there_is_no_terminal(environment):
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "sparkctl",
        "demo",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
    )
    out, err = await process.communicate()

    assert (process.returncode, err.decode()) == (0, "")
    lines = out.decode().splitlines()
    assert [line.split()[0] for line in lines if line.split()[0] in WORDS] == list(WORDS)
    assert lines[-1] == "demo: ok"
