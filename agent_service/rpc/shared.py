"""Work in the background that lasts as long as somebody uses it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


@asynccontextmanager
async def background(work: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Do work, which raises nothing, until it is done or the context is left."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


@dataclass(slots=True)
class _Use(Generic[Value]):
    value: Value
    context: AsyncExitStack = field(default_factory=AsyncExitStack)
    users: int = 0


class Shared(Generic[Key, Value]):
    """What several use at the same time: opened for the first of them, closed after the last."""

    def __init__(self) -> None:
        self._uses: dict[Key, _Use[Value]] = {}

    @asynccontextmanager
    async def of(
        self, key: Key, opened: Callable[[], AbstractAsyncContextManager[Value]]
    ) -> AsyncIterator[Value]:
        """What is open for a key. Opening must not wait for anything."""
        use = self._uses.get(key)
        if use is None:
            context = AsyncExitStack()
            use = self._uses[key] = _Use(await context.enter_async_context(opened()), context)
        use.users += 1
        try:
            yield use.value
        finally:
            use.users -= 1
            if not use.users:
                self.forget(key, use.value)
                await use.context.aclose()

    def forget(self, key: Key, value: Value) -> None:
        """Open another one for whoever asks from now on. Those who use this one keep it."""
        if key in self._uses and self._uses[key].value is value:
            del self._uses[key]
