"""Found by a process that has this directory on its PYTHONPATH: its idea of time is shifted.

Only the time of day: the monotonic clock goes on as in every process.
"""

import datetime
import os
import time

_SECONDS = int(os.environ["TORTURE_SKEW_SECONDS"])
_true_time, _true_datetime = time.time, datetime.datetime


class _AlsoTrue(type):
    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, _true_datetime)


class _Skewed(datetime.datetime, metaclass=_AlsoTrue):
    # Of the same size, which compiled code looks at.
    __slots__ = ()

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:
        return _true_datetime.fromtimestamp(time.time(), tz)


time.time = lambda: _true_time() + _SECONDS
time.time_ns = lambda: int(time.time() * 1_000_000_000)
datetime.datetime = _Skewed
