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
    return math.inf if timeout is None else checked_seconds(timeout, "wait", "timeout")


def checked_seconds(value: Any, action: str, name: str) -> float:
    """How long to wait, in seconds; raises CommandRejected, ``invalid_argument``."""
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise invalid(action, f"{name} must be seconds or a timedelta of 0 or more")
    return math.inf if value > _LONGEST else float(value)


def pauses(workflow_id: str, timeout: float) -> Iterator[float]:
    """How long to sleep before each next look; raises TimeoutError once the time is over, counted
    from now."""
    return _until_over(workflow_id, timeout, looks(timeout))


def _until_over(workflow_id: str, timeout: float, pauses: Iterator[float]) -> Iterator[float]:
    yield from pauses
    raise TimeoutError(f"workflow {workflow_id} has not ended within {timeout:g} s")


def looks(seconds: float) -> Iterator[float]:
    """How long to sleep before each next look, until so much time is over, counted from now."""
    return _looks(time.monotonic() + seconds)


def _looks(end: float) -> Iterator[float]:
    for pause in chain(_FIRST_PAUSES, repeat(_PAUSE)):
        left = end - time.monotonic()
        if left <= 0:
            return
        yield min(pause, left)
