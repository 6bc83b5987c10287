"""Threads for plain handlers, which hand their results back to the event loop in bunches."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")
Job = tuple[Callable[[], Any], "asyncio.Future[Any]"]


class Threads:
    """Up to ``limit`` daemon threads, started as they are needed.

    Unlike an executor's they do not keep a process from ending: a handler that hangs is left
    behind, and its lease passes. A bunch of results wakes the event loop once.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._jobs: SimpleQueue[Job] = SimpleQueue()
        self._started = 0
        self._busy = 0
        self._done: deque[tuple[asyncio.Future[Any], Any, BaseException | None]] = deque()
        self._told = False
        self._loop = asyncio.get_running_loop()

    def run(self, function: Callable[[], T]) -> asyncio.Future[T]:
        """Calls the function in a thread; the future has its result or exception."""
        future: asyncio.Future[T] = self._loop.create_future()
        self._busy += 1
        if self._started < min(self._busy, self._limit):
            self._started += 1
            threading.Thread(target=self._serve, name="rwf-step", daemon=True).start()
        self._jobs.put((function, future))
        return future

    def _serve(self) -> None:
        while True:
            function, future = self._jobs.get()
            result, error = None, None
            try:
                result = function()
            except BaseException as raised:
                error = raised
            self._done.append((future, result, error))
            if not self._told:
                self._told = True
                try:
                    self._loop.call_soon_threadsafe(self._deliver)
                except RuntimeError:
                    return  # the loop has ended, and nobody waits for the result

    def _deliver(self) -> None:
        self._told = False
        while self._done:
            future, result, error = self._done.popleft()
            self._busy -= 1
            if future.cancelled():
                continue
            if error is None:
                future.set_result(result)
            elif isinstance(error, StopIteration | SystemExit | KeyboardInterrupt):
                # None of these may be raised through a future, or ends the process from a thread.
                future.set_exception(RuntimeError(f"the handler raised {type(error).__name__}"))
            else:
                future.set_exception(error)
