"""The commands of the cron example do what its README says."""

import asyncio
import os
import shlex
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from tests.examples.optimizer.scripted_gateway import ScriptedGateway, running

DIRECTORY = Path(__file__).parent.parent.parent.parent / "examples" / "cron"


def command(file: str) -> list[str]:
    """The words of the one command in a file, from `post` on."""
    [line] = [line for line in (DIRECTORY / file).read_text().splitlines() if "sparkctl post" in line]
    return shlex.split(line.partition("sparkctl ")[2])


@pytest.mark.parametrize("file", ["crontab", "spark-morning.service"])
async def test_the_command_posts_a_morning_that_expires_and_replaces_the_last(file: str) -> None:
    gateway, session_id = ScriptedGateway(), str(uuid4())
    post, name, *options = command(file)
    assert (post, name) == ("post", "lighthouse")
    async with running(gateway) as address:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "sparkctl", post, session_id, *options),
            env={**os.environ, "SPARK_GATEWAY_ADDRESS": address},
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        _, err = await process.communicate()
    assert (process.returncode, err.decode()) == (0, "")
    [request] = gateway.attempts
    morning = request.interrupt
    assert (morning.session_id, morning.source) == (session_id, "cron:morning")
    assert (morning.notification.type, morning.coalesce_key) == ("day.started", "morning")
    left = morning.expire_time.ToDatetime(UTC) - datetime.now(UTC)
    assert timedelta(hours=2, minutes=55) < left <= timedelta(hours=3)


def test_both_files_have_the_same_command() -> None:
    assert command("crontab") == command("spark-morning.service")
