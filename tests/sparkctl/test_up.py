import asyncio
import os
import signal
import sys
from contextlib import asynccontextmanager

import pytest


@asynccontextmanager
async def up(environment):
    """`sparkctl up` when it has said all that it has to say."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "sparkctl",
        "up",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
    )
    try:
        said = (await process.stdout.readuntil(b"Ctrl-C stops both.\n")).decode()
        yield process, said
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_it_says_where_the_services_listen_and_how_to_go_on(children):
    async with up(children()) as (process, said):
        process.terminate()
        await process.wait()

    assert said.startswith("agent service  agent_service:1\ngateway        gateway:1\n")
    assert "export SPARK_AGENT_ADDRESS=agent_service:1 SPARK_GATEWAY_ADDRESS=gateway:1" in said
    assert "gateway:1 spark.gateway.v1.GatewayService/PostInterrupt" in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_a_signal_stops_the_gateway_and_then_the_agent_service(children, tmp_path, number):
    async with up(children()) as (process, _):
        process.send_signal(number)
        await process.wait()

    assert process.returncode == 0
    assert (tmp_path / "stopped").read_text() == "gateway stops\nagent_service stops\n"


async def test_a_second_ctrl_c_waits_for_nobody(children):
    stubborn = (
        "stop = lambda *_: print('no', file=sys.stderr, flush=True); signal.signal(signal.SIGTERM, stop)"
    )
    async with up(children(gateway=stubborn)) as (process, _):
        process.send_signal(signal.SIGINT)
        await process.stderr.readuntil("│ no\n".encode())
        process.send_signal(signal.SIGINT)
        await process.wait()


async def test_a_service_that_dies_ends_it_with_an_error(children, tmp_path):
    async with up(children(gateway="print(os.getpid(), file=open('pid', 'w'))")) as (process, _):
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
        _, err = await process.communicate()

    assert process.returncode == 1
    assert err.decode().splitlines()[-1] == "sparkctl: the gateway was killed by signal 9 (Killed)"
    assert (tmp_path / "stopped").read_text() == "agent_service stops\n"


async def test_the_logs_are_passed_on_with_the_name_of_the_service(children):
    async with up(children()) as (process, _):
        process.terminate()
        _, err = await process.communicate()

    assert "agent service │ about itself" in err.decode()
    assert "gateway       │ about agent_service:1" in err.decode()
