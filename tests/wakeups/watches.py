"""What tests ask of a watch."""

import asyncio

from agent_service.wakeups import Watch

HOURS = 3600.0


async def wakes(watch: Watch) -> bool:
    """Whether the watch has something to tell now: a wake-up takes some rounds of the event loop, no time."""
    waiting = asyncio.ensure_future(watch.wait(HOURS))
    for _ in range(10):
        await asyncio.sleep(0)
    woken = waiting.done()
    waiting.cancel()
    return woken


async def hears(watch: Watch) -> None:
    """Wait for a hint."""
    async with asyncio.timeout(30):
        assert await watch.wait(HOURS)
