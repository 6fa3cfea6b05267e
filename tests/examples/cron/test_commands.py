"""What cron and systemd run does what its README says."""

import asyncio
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from spark.agent.v1.session_pb2 import Session
from spark.gateway.v1.gateway_service_pb2 import PostInterruptRequest
from tests.sparkctl.events import SESSION
from tests.sparkctl.scripted import scripted_services

DIRECTORY = Path(__file__).parent.parent.parent.parent / "examples" / "cron"
PATH = f"{DIRECTORY}:{Path(sys.executable).parent}:{os.environ['PATH']}"


async def posted(zone: str = "UTC", times: int = 1) -> list[PostInterruptRequest]:
    """What the command posts that often."""
    async with scripted_services() as services:
        services.agent.sessions = [Session(session_id=SESSION, display_name="lighthouse")]
        address = services.address
        environment = {
            "PATH": PATH,
            "TZ": zone,
            "SPARK_AGENT_ADDRESS": address,
            "SPARK_GATEWAY_ADDRESS": address,
        }
        for _ in range(times):
            process = await asyncio.create_subprocess_exec("spark-morning", env=environment, cwd="/")
            assert await process.wait() == 0
        return services.gateway.posted


async def test_the_command_posts_a_morning_that_is_worth_nothing_on_the_next_day() -> None:
    [request] = await posted()
    morning = request.interrupt
    assert (morning.session_id, morning.source) == (SESSION, "cron:morning")
    assert (morning.notification.type, morning.coalesce_key) == ("day.started", "morning")
    expires = morning.expire_time.ToDatetime(UTC)
    assert timedelta(0) < expires - datetime.now(UTC) < timedelta(days=1)
    assert request.request_id == f"morning-{expires:%Y-%m-%d}"


async def test_the_day_is_that_of_the_place() -> None:
    [request] = await posted(zone="UTC+09:30")
    expires = request.interrupt.expire_time.ToDatetime(UTC)
    assert (expires.hour, expires.minute) == (9, 29)


async def test_to_run_it_again_on_the_same_day_is_to_post_the_same() -> None:
    first, second = await posted(times=2)
    assert first == second


def test_both_files_run_it() -> None:
    for file, line in [
        ("crontab", "0 7 * * 1-5 spark-morning"),
        ("spark-morning.service", "ExecStart=/usr/local/bin/spark-morning"),
    ]:
        assert line in (DIRECTORY / file).read_text().splitlines()
