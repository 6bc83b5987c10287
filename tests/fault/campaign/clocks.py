"""A process whose clock is wrong."""

from __future__ import annotations

import datetime
import sys
import time
from collections.abc import Callable


def put_clock_off(seconds: float, replace: Callable[[object, str, object], None] = setattr) -> None:
    """Sets this process's clock off by some seconds: for direct calls of the system, and in the
    ``datetime`` of the library's modules. ``replace`` is like setattr."""
    clock, clock_ns = time.time, time.time_ns
    replace(time, "time", lambda: clock() + seconds)
    replace(time, "time_ns", lambda: clock_ns() + int(seconds * 1e9))

    class Shifted(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Shifted:
            return cls.fromtimestamp(time.time(), tz)

    for module in list(sys.modules.values()):
        if module.__name__.partition(".")[0] == "rwf" and hasattr(module, "datetime"):
            replace(module, "datetime", Shifted)
