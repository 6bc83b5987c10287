"""How often a call is sent again, and when it is given up.

    a server that does not answer     once its time limit has passed
    one that refuses connections,     after about two seconds, which a restart or a failover that is
    loads its data, is a replica      under way may take, or the time limit if that is less

The last try may begin just before the time limit and then meet a silent server: no call takes
longer than twice its time limit.
"""

from __future__ import annotations

import time
from typing import Final

import redis.exceptions as errors

from rwf.errors import StoreUnavailable
from rwf.transport.faults import (
    PASSING,
    NodeSilent,
    code_of,
    is_silence,
    misconfigured,
    never_ran,
    translated,
)

# Pauses between the tries, in seconds.
_PAUSES: Final = (0.05, 0.1, 0.25, 0.5, 1.0)


class Patience:
    """The tries of one call, or of several that travel together; ``timeout`` is in seconds."""

    def __init__(self, timeout: float, *, cluster: bool) -> None:
        self.tries = 0
        self.never_ran = True
        self._cluster = cluster
        self._deadline = time.monotonic() + timeout

    def verdict(self, error: Exception, *, last: bool = False) -> Exception | None:
        """The error to raise after a failed try; None when another may succeed. ``last``: no other
        try is allowed."""
        self.never_ran = self.never_ran and never_ran(error)
        if (found := misconfigured(error, cluster=self._cluster)) is not None:
            return found
        over = last or self.tries >= len(_PAUSES) or time.monotonic() >= self._deadline
        if isinstance(error, errors.ResponseError):
            return error if over or code_of(error) not in PASSING else None
        if over or is_silence(error) or isinstance(error, NodeSilent):
            return self.unavailable(error)
        return None

    def pause(self) -> float:
        """The seconds to wait before the next try."""
        self.tries += 1
        left = max(self._deadline - time.monotonic(), 0.0)
        return min(_PAUSES[self.tries - 1], left)

    def unavailable(self, error: Exception) -> StoreUnavailable:
        """The error to raise for one after which no reply came."""
        if isinstance(error, StoreUnavailable):
            return error
        if isinstance(error, errors.ResponseError):
            told = translated(error, never_ran=self.never_ran)
            return told if isinstance(told, StoreUnavailable) else StoreUnavailable(str(told))
        text = str(error) or "it did not answer in time"
        return StoreUnavailable(f"no answer from the server: {text}", never_ran=self.never_ran)
