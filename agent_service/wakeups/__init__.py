"""Hints that something happened. The database is the truth: a poll stands behind every wait.

`local` carries them inside of a process, `relay` between the replicas of a database.
"""

from agent_service.wakeups.local import Wakeups, Watch

__all__ = ["Wakeups", "Watch"]
