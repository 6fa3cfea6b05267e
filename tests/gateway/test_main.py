"""The gateway as a process."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from spark.agent.v1.interrupt_pb2 import Interrupt, Nudge
from spark.gateway.v1.gateway_service_pb2 import PostInterruptRequest
from tests.gateway.conditions import PATIENCE_SECONDS, until
from tests.gateway.running_gateway import NOT_SERVING, SERVING, calling
from tests.gateway.scripted_agent import ScriptedAgent, running

POST = PostInterruptRequest(interrupt=Interrupt(source="operator", nudge=Nudge(text="stop there")))


async def start(*arguments: str, **environment: str) -> asyncio.subprocess.Process:
    variables = {name: value for name, value in os.environ.items() if not name.startswith("SPARK_")}
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "gateway", *arguments),
        env=variables | environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def ended(process: asyncio.subprocess.Process) -> tuple[int, str, str]:
    async with asyncio.timeout(PATIENCE_SECONDS):
        stdout, stderr = await process.communicate()
    return process.returncode, stdout.decode(), stderr.decode()


@asynccontextmanager
async def gateway_process(
    agent_address: str, listen: str = "127.0.0.1:0"
) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    process = await start(SPARK_GATEWAY_LISTEN=listen, SPARK_AGENT_ADDRESS=agent_address)
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            first_line = (await process.stdout.readline()).decode()
        assert first_line.startswith("listening 127.0.0.1:"), first_line
        yield process, first_line.split()[1]
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def test_it_says_where_it_listens_serves_and_stops_cleanly():
    async with running(ScriptedAgent()) as agent, gateway_process(agent.address) as (process, address):
        async with calling(address) as caller:
            response = await caller.gateway.PostInterrupt(POST)
            assert response.interrupt.source == "operator"

        process.send_signal(signal.SIGTERM)
        code, rest, logs = await ended(process)

    assert (code, rest) == (0, "")
    assert "stop there" not in logs
    assert "Traceback" not in logs


async def test_sigterm_lets_a_post_in_flight_finish():
    script, answer = ScriptedAgent(), asyncio.Event()
    script.before = lambda _: answer.wait()
    async with (
        running(script) as agent,
        gateway_process(agent.address) as (process, address),
        calling(address) as caller,
    ):
        posted = asyncio.ensure_future(caller.gateway.PostInterrupt(POST))
        async with caller.watching_health() as health:
            await health.until(SERVING)
            await until(lambda: script.calls)
            process.send_signal(signal.SIGTERM)
            await health.until(NOT_SERVING)
        answer.set()

        assert (await posted).interrupt.source == "operator"
        assert (await ended(process))[0] == 0


async def test_health_exits_0_only_when_the_gateway_is_serving():
    async with running(ScriptedAgent()) as agent, gateway_process(agent.address) as (process, address):
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (await ended(await start("health", SPARK_GATEWAY_LISTEN=address)))[0] != 0:
                pass
        process.send_signal(signal.SIGTERM)
        await ended(process)

        code, _, said = await ended(await start("health", SPARK_GATEWAY_LISTEN=address))
        assert code == 1
        assert address in said
        assert "Traceback" not in said


async def test_a_malformed_setting_stops_the_start_and_is_named():
    code, _, said = await ended(await start(SPARK_GATEWAY_LISTEN="nowhere"))

    assert code == 2
    assert said == "gateway: SPARK_GATEWAY_LISTEN: must be HOST:PORT\n"


async def test_a_port_that_is_taken_stops_the_start_and_is_named():
    async with gateway_process("127.0.0.1:1") as (_, address):
        code, _, said = await ended(await start(SPARK_GATEWAY_LISTEN=address))

    assert code == 2
    assert f"SPARK_GATEWAY_LISTEN: cannot listen on {address}" in said
    assert "Traceback" not in said


async def test_an_unknown_command_is_a_usage_error():
    assert (await ended(await start("dance")))[0] == 2
