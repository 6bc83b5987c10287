"""Waiting, locking and running calls side by side, with threads.

The counterpart of ``rwf.transport.aio.concurrency``, with the same names.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from threading import Event, Lock
from time import sleep
from typing import TypeVar

T = TypeVar("T")
S = TypeVar("S")

__all__ = ["Event", "Listener", "Lock", "SideBySide", "call", "sleep", "time_limit", "wait_for"]


def call(function: Callable[[], T]) -> T:
    """The result of a function that blocks."""
    return function()


def time_limit(_seconds: float | None) -> nullcontext[None]:
    """Nothing: sockets and pools have time limits of their own."""
    return nullcontext()


def wait_for(event: Event, seconds: float) -> None:
    """Waits that long, or until the event is set."""
    event.wait(seconds)


class SideBySide:
    """Calls that are made at the same time, so many at most; the others wait for the first."""

    def __init__(self, name: str, limit: int) -> None:
        self._name = name
        self._limit = limit
        self._threads: tuple[int, ThreadPoolExecutor] | None = None

    def map(self, function: Callable[[S], T], items: Sequence[S]) -> list[T]:
        """The function's results, in the order of its arguments."""
        if len(items) == 1:
            return [function(items[0])]
        pid, threads = self._threads or (0, None)
        if threads is None or pid != os.getpid():  # the threads of a parent are not a child's
            threads = ThreadPoolExecutor(self._limit, thread_name_prefix=self._name)
            self._threads = os.getpid(), threads
        return list(threads.map(function, items))

    def close(self) -> None:
        """Ends the threads, each with the call that it is busy with."""
        if self._threads is not None:
            self._threads[1].shutdown(wait=False)
            self._threads = None


class Listener:
    """A thread of its own for what goes on in the background; it does not hold up the process."""

    def __init__(self, main: Callable[[], None], name: str) -> None:
        threading.Thread(target=main, name=name, daemon=True).start()

    def close(self) -> None:
        """Nothing: what it runs ends by itself when nobody needs it."""
