"""Waiting for the end of workflows: a hint wakes a wait, and it looks now and then without one.

However many wait on a client, one listener hears the hints for all of them, while anybody waits.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from contextlib import aclosing, asynccontextmanager, closing, contextmanager, suppress
from datetime import timedelta
from itertools import chain, repeat
from typing import Any, Final

from rwf.model.views import Event
from rwf.ops.base import invalid

_log = logging.getLogger("rwf")

# How long a wait sleeps between two looks when no hint comes, in seconds.
_FIRST_PAUSES: Final = (0.05, 0.1, 0.25, 0.5)
_PAUSE: Final = 1.0
# What no machine outlives is for ever; integers may be larger than any float.
_LONGEST: Final = 1e15
_TERMINAL: Final = "workflow_terminal"


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


class Endings:
    """Wakes threads that wait for the end of a workflow. A thread of its own hears the hints."""

    def __init__(self, hints: Callable[[], Generator[Event | None, None, None]]) -> None:
        self._hints = hints
        self._lock = threading.Lock()
        self._waiting: dict[str, list[threading.Event]] = {}
        self._listening = False

    @contextmanager
    def heard(self, workflow_id: str) -> Iterator[threading.Event]:
        """An event that is set when a hint says that the workflow has ended."""
        told = threading.Event()
        with self._lock:
            self._waiting.setdefault(workflow_id, []).append(told)
            if not self._listening:
                self._listening = True
                threading.Thread(target=self._listen, name="rwf-endings", daemon=True).start()
        try:
            yield told
        finally:
            with self._lock:
                _remove(self._waiting, workflow_id, told)

    def _listen(self) -> None:
        try:
            with closing(self._hints()) as hints:
                while self._goes_on(next(hints)):
                    pass
        except Exception as error:
            _without_hints(error)
            with self._lock:
                self._listening = False  # the next wait tries anew

    def _goes_on(self, hint: Event | None) -> bool:
        with self._lock:
            if hint is not None and hint.event == _TERMINAL:
                for told in self._waiting.get(hint.workflow_id, ()):
                    told.set()
            self._listening = bool(self._waiting)
            return self._listening


class AsyncEndings:
    """Wakes tasks that wait for the end of a workflow. A task of its own hears the hints."""

    def __init__(self, hints: Callable[[], AsyncGenerator[Event | None, None]]) -> None:
        self._hints = hints
        self._waiting: dict[str, list[asyncio.Event]] = {}
        self._listener: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def heard(self, workflow_id: str) -> AsyncIterator[asyncio.Event]:
        """An event that is set when a hint says that the workflow has ended."""
        told = asyncio.Event()
        self._waiting.setdefault(workflow_id, []).append(told)
        if self._listener is None or self._listener.done():
            self._listener = asyncio.create_task(self._listen(), name="rwf-endings")
        try:
            yield told
        finally:
            _remove(self._waiting, workflow_id, told)

    async def close(self) -> None:
        """Ends the listening."""
        if self._listener is not None:
            self._listener.cancel()
            await asyncio.wait([self._listener])

    async def _listen(self) -> None:
        try:
            async with aclosing(self._hints()) as hints:
                async for hint in hints:
                    if hint is not None and hint.event == _TERMINAL:
                        for told in self._waiting.get(hint.workflow_id, ()):
                            told.set()
                    if not self._waiting:
                        self._listener = None
                        return
        except Exception as error:
            _without_hints(error)


async def sleep(told: asyncio.Event, seconds: float) -> None:
    """Sleeps that long, or until it is told."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await told.wait()


def _remove(waiting: dict[str, list[Any]], workflow_id: str, told: Any) -> None:
    waiting[workflow_id].remove(told)
    if not waiting[workflow_id]:
        del waiting[workflow_id]


def _without_hints(error: Exception) -> None:
    _log.warning("waits go on without hints, by looking: %s", type(error).__name__)
