"""The children are programs that only say what they are told: how they are started and stopped is ours."""

import asyncio
import errno
import os
import signal

import pytest

from sparkctl.connections import Addresses
from sparkctl.services import ServiceDied, services


class Logs(list):
    """Collects what the services say, and can be waited for."""

    def __init__(self):
        super().__init__()
        self._grown = asyncio.Event()

    def __call__(self, name, line):
        self.append((name, line))
        self._grown.set()

    async def have(self, *said):
        async with asyncio.timeout(10):
            while said not in self:
                await self._grown.wait()
                self._grown.clear()


async def test_both_listen_and_the_gateway_is_told_where_the_agent_service_does(children, tmp_path):
    logs = Logs()
    async with services(children(), logs) as running:
        assert running.addresses == Addresses("agent_service:1", "gateway:1")
        await logs.have("gateway", "about agent_service:1")
        await logs.have("agent service", "and more")


async def test_they_stop_in_the_reverse_order(children, tmp_path):
    async with services(children(), Logs()):
        pass

    assert (tmp_path / "stopped").read_text() == "gateway stops\nagent_service stops\n"


async def test_a_ctrl_c_at_the_terminal_does_not_reach_them_directly(children):
    async with services(children(), Logs()) as running:
        groups = {os.getpgid(service.process.pid) for service in (running.agent, running.gateway)}

        assert len(groups - {os.getpgid(0)}) == 2


async def test_one_that_dies_is_named_with_how_and_takes_the_other_down(children, tmp_path):
    async with services(children(), Logs()) as running:
        os.kill(running.gateway.process.pid, signal.SIGKILL)
        with pytest.raises(ServiceDied, match=r"the gateway was killed by signal 9 \(Killed\)"):
            await running.until_one_dies()

    assert (tmp_path / "stopped").read_text() == "agent_service stops\n"


async def test_one_that_cannot_start_is_named_with_its_exit_code(children, tmp_path):
    logs = Logs()
    with pytest.raises(ServiceDied, match="the gateway stopped with exit code 3 before it was listening"):
        async with services(children(gateway="sys.exit(3)"), logs):
            pass

    assert (tmp_path / "stopped").read_text() == "agent_service stops\n"
    assert ("gateway", "about agent_service:1") in logs


async def test_one_whose_words_cannot_be_passed_on_is_heard_to_the_end(children):
    logs = Logs()

    def full(name, line):
        logs(name, line)
        raise OSError(errno.ENOSPC, "No space left on device")

    async with services(children(), full):
        await logs.have("agent service", "and more")
        await logs.have("gateway", "about agent_service:1")
