"""Where a process dies: right before a call of one of its functions, or right after it."""

import os
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial, wraps
from inspect import isawaitable
from itertools import count
from pkgutil import resolve_name
from typing import TypeAlias

Function: TypeAlias = Callable[..., object]


class When(StrEnum):
    BEFORE = "before"
    AFTER = "after"


def die() -> None:
    """As kill -9 does it to a process."""
    os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class Point:
    """At a call of a function, by module and qualified name, of that number since the process began, or since
    it came to another point."""

    when: When
    function: str
    call: int = 1
    since: "Point | None" = None

    def __str__(self) -> str:
        return f"{self.when} call {self.call} of {self.function}"

    def arm(self, act: Callable[[], None] = die) -> None:
        """Let this process act there. Raises AttributeError where nothing has this name."""
        if self.since:
            self.since.arm(partial(replace(self, since=None).arm, act))
            return
        module, _, path = self.function.partition(":")
        owner_path, _, name = path.rpartition(".")
        owner = resolve_name(f"{module}:{owner_path}")
        setattr(owner, name, self._acting(getattr(owner, name), act))

    def _acting(self, function: Function, act: Callable[[], None]) -> Function:
        calls = count(1)

        @wraps(function)
        def call(*arguments: object, **options: object) -> object:
            is_here = next(calls) == self.call
            if is_here and self.when is When.BEFORE:
                act()
            result = function(*arguments, **options)
            if is_here and self.when is When.AFTER:
                if isawaitable(result):
                    return _and_act(result, act)
                act()
            return result

        return call


async def _and_act(work: Awaitable[object], act: Callable[[], None]) -> object:
    result = await work
    act()
    return result
