"""How much a server may say: more is no conversation any more, and would only eat memory or time."""

import time

from agent_service.tools.mcp.failures import Broken

MAX_MESSAGE_BYTES = 4 * 1024 * 1024
# Of messages, and of lines that are none.
MAX_A_SECOND = 1000


class Meter:
    """Tells a server that talks from one that floods."""

    def __init__(self, max_a_second: int = MAX_A_SECOND) -> None:
        self._max_a_second, self._count, self._since = max_a_second, 0, time.monotonic()

    def count(self) -> None:
        """Take note of a message. Raises Broken if there were too many in a second."""
        now = time.monotonic()
        if now - self._since >= 1:
            self._count, self._since = 0, now
        self._count += 1
        if self._count > self._max_a_second:
            raise Broken(f"sent more than {self._max_a_second} messages in a second")
