"""Waiting for a condition instead of sleeping for luck."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(condition: Callable[[], T], *, timeout: float = 30.0, what: str) -> T:
    """The first true value of ``condition()``, asked again every 10 ms.

    ``timeout`` is in seconds; ``what`` completes the sentence "still waiting for ...".
    Raises AssertionError when the time is up. What ``condition`` raises goes through.
    """
    deadline = time.monotonic() + timeout
    while True:
        if value := condition():
            return value
        if time.monotonic() >= deadline:
            raise AssertionError(f"after {timeout:g} s still waiting for {what}")
        time.sleep(0.01)
