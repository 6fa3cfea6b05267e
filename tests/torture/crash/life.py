"""Services as processes that may die by themselves.

They are forked from one that has imported everything: a start, which takes a second otherwise, takes a
moment.
"""

import multiprocessing
import os
import runpy
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess

from tests.servers.postgres import free_port
from tests.support import until
from tests.torture.crash.point import Point
from tests.torture.history import History

_IMPORTED = ["agent_service.service", "agent_service.tools.mcp.tool_set", "gateway.server", __name__]


def _live(module: str, settings: dict[str, str], point: Point | None) -> None:
    """`python -m module`, with no settings but these."""
    os.chdir("/")
    for name in [name for name in os.environ if name.startswith("SPARK_")]:
        del os.environ[name]
    os.environ.update(settings)
    sys.argv = [module]
    if point:
        point.arm()
    runpy.run_module(module, run_name="__main__")


@dataclass
class Lives:
    """One process after the other, each at the same address."""

    name: str
    module: str
    settings: dict[str, str]
    history: History
    address: str
    _process: BaseProcess | None = None

    def begin(self, point: Point | None = None) -> None:
        """Start the next one, which dies at a point, if one is given."""
        listen = f"SPARK_{self.module.removesuffix('_service').upper()}_LISTEN"
        arguments = self.module, self.settings | {listen: self.address}, point
        self._process = multiprocessing.get_context("forkserver").Process(target=_live, args=arguments)
        self._process.start()

    async def until_dead(self, point: Point) -> None:
        """Wait until it has died at its point, and of nothing else."""

        async def is_dead() -> bool:
            return self._process.exitcode is not None

        await until(is_dead)
        assert self._process.exitcode == -signal.SIGKILL, f"it did not die {point}"

    def end(self) -> None:
        """As kill -9 does."""
        self._process.kill()
        self._process.join()


@asynccontextmanager
async def lives(
    name: str, module: str, history: History, point: Point | None, **settings: str
) -> AsyncIterator[Lives]:
    """The first of them has begun; the last one ends with this."""
    multiprocessing.get_context("forkserver").set_forkserver_preload(_IMPORTED)
    one = Lives(name, module, settings, history, f"127.0.0.1:{free_port()}")
    one.begin(point)
    try:
        yield one
    finally:
        one.end()
