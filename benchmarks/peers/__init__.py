"""Peers: what else wakes work through PostgreSQL.

Each is a module with `sending`; run with `-m` and a database URL it is a worker, which says `listening -` on
stdout and then each text that it is sent.
"""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TypeAlias

# A way to send a text, while the context is open.
Sending: TypeAlias = AbstractAsyncContextManager[Callable[[str], Awaitable[object]]]
