from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

from agent_service.rpc.shared import Shared


class Lamps:
    """Notes what is opened and closed."""

    def __init__(self) -> None:
        self.told: list[str] = []

    @asynccontextmanager
    async def lamp(self, name: str) -> AsyncIterator[object]:
        self.told.append(f"{name} opened")
        try:
            yield object()
        finally:
            self.told.append(f"{name} closed")


async def test_what_is_shared_is_opened_for_the_first_and_closed_after_the_last() -> None:
    lamps, shared = Lamps(), Shared[str, object]()
    async with AsyncExitStack() as first:
        one = await first.enter_async_context(shared.of("key", lambda: lamps.lamp("one")))
        with suppress(ConnectionError):
            async with shared.of("key", lambda: lamps.lamp("two")) as same:
                assert same is one
                raise ConnectionError
        assert lamps.told == ["one opened"]
    assert lamps.told == ["one opened", "one closed"]
    async with shared.of("key", lambda: lamps.lamp("three")) as another:
        assert another is not one


async def test_each_key_has_its_own() -> None:
    lamps, shared = Lamps(), Shared[str, object]()
    async with (
        shared.of("here", lambda: lamps.lamp("one")) as here,
        shared.of("there", lambda: lamps.lamp("two")) as there,
    ):
        assert here is not there


async def test_what_is_forgotten_is_kept_by_those_who_have_it_and_given_to_nobody_else() -> None:
    lamps, shared = Lamps(), Shared[str, object]()
    async with AsyncExitStack() as first, AsyncExitStack() as second:
        old = await first.enter_async_context(shared.of("key", lambda: lamps.lamp("old")))
        shared.forget("key", old)
        new = await second.enter_async_context(shared.of("key", lambda: lamps.lamp("new")))
        shared.forget("key", old)
        await first.aclose()
        assert lamps.told == ["old opened", "new opened", "old closed"]
        async with shared.of("key", lambda: lamps.lamp("another")) as same:
            assert same is new
