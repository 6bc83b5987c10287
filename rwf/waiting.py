"""How long a wait for the end of a workflow takes, and when it looks."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from datetime import timedelta
from itertools import chain, repeat
from typing import Any, Final

from rwf.ops.base import invalid

# How long a wait sleeps between two looks when no hint comes, in seconds.
_FIRST_PAUSES: Final = (0.05, 0.1, 0.25, 0.5)
_PAUSE: Final = 1.0
# Longer waits, which no machine outlives, are for ever; integers may be larger than any float.
_LONGEST: Final = 1e15


def checked_timeout(timeout: Any) -> float:
    """A time limit in seconds, infinite for None; raises CommandRejected, ``invalid_argument``."""
    if timeout is None:
        return math.inf
    if isinstance(timeout, timedelta):
        timeout = timeout.total_seconds()
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout >= 0:
        raise invalid("wait", "timeout must be seconds or a timedelta of 0 or more, or None")
    return math.inf if timeout > _LONGEST else float(timeout)


def pauses(workflow_id: str, timeout: float) -> Iterator[float]:
    """How long to sleep before each next look; raises TimeoutError once the time is over."""
    return _pauses(workflow_id, timeout, time.monotonic() + timeout)


def _pauses(workflow_id: str, timeout: float, end: float) -> Iterator[float]:
    for pause in chain(_FIRST_PAUSES, repeat(_PAUSE)):
        left = end - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"workflow {workflow_id} has not ended within {timeout:g} s")
        yield min(pause, left)
