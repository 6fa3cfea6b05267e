"""Waiting for a condition instead of a time."""

import asyncio
from collections.abc import Callable

PATIENCE_SECONDS = 20


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():  # noqa: ASYNC110 - what a server has got by now sets no event
            await asyncio.sleep(0.001)
