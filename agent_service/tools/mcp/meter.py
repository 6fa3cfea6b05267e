"""How much a server may say: more is no conversation any more, and would only eat memory or time."""

import time

from mcp.types import JSONRPCMessage, JSONRPCRequest

from agent_service.tools.mcp.failures import Broken

MAX_MESSAGE_BYTES = 4 * 1024 * 1024
# Of messages, and of lines that are none.
MAX_A_SECOND = 1000
# Of lists and objects, which are what takes time: a second for a million.
MAX_NESTED_A_SECOND = 250_000
# Of requests, which are answered: nobody knows whether the server reads that.
MAX_ASKED_A_MINUTE = 100


class Meter:
    """Tells a server that talks from one that floods. Every method raises Broken if it does."""

    def __init__(self, max_a_second: int = MAX_A_SECOND) -> None:
        self._messages = _Window(max_a_second, 1, "messages in a second")
        self._nested = _Window(MAX_NESTED_A_SECOND, 1, "lists and objects in a second")
        self._asked = _Window(MAX_ASKED_A_MINUTE, 60, "requests in a minute")

    def count(self) -> None:
        """Take note of a message that has come."""
        self._messages.add(1)

    def weigh(self, piece: bytes) -> None:
        """Take note of what is yet to be read."""
        self._nested.add(piece.count(b"[") + piece.count(b"{"))

    def heed(self, message: JSONRPCMessage) -> None:
        """Take note of what a message is."""
        if isinstance(message, JSONRPCRequest):
            self._asked.add(1)


class _Window:
    def __init__(self, most: int, seconds: float, what: str) -> None:
        self._most, self._seconds, self._what = most, seconds, what
        self._count, self._since = 0, time.monotonic()

    def add(self, count: int) -> None:
        now = time.monotonic()
        if now - self._since >= self._seconds:
            self._count, self._since = 0, now
        self._count += count
        if self._count > self._most:
            raise Broken(f"sent more than {self._most} {self._what}")
