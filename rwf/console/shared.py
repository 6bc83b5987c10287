"""Reads that many viewers share: one at a time, and no more often than every few seconds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any, Final, TypeVar

T = TypeVar("T")

PAGES: Final = 8
"""Pages that are made at the same time; others wait for their turn."""
_REST: Final = 10
"""A read that takes long is kept for so many times as long."""


class Shared:
    """Keeps the latest answer of each read for a while. The keys are few, and the console's own."""

    def __init__(self) -> None:
        self.turns = asyncio.Semaphore(PAGES)
        self._large = asyncio.Semaphore(1)
        self._running: dict[str, asyncio.Task[Any]] = {}
        self._found: dict[str, tuple[float, Any]] = {}

    def turn(self, *, large: bool) -> AbstractAsyncContextManager[None]:
        """The turn of whoever reads a workflow: those that are large one after the other, so that
        other pages go on beside them."""
        return self._large if large else nullcontext()

    async def get(self, key: str, seconds: float, read: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The result of a read; all who ask for it within so many seconds share it."""
        until, found = self._found.get(key, (0.0, None))
        if time.monotonic() < until:
            answer: T = found
            return answer
        task = self._running.get(key)
        if task is None:
            task = asyncio.create_task(self._read(key, seconds, read))
            self._running[key] = task
            task.add_done_callback(lambda _: self._running.pop(key, None))
        # Who leaves does not take the answer from the others.
        return await asyncio.shield(task)

    async def _read(
        self, key: str, seconds: float, read: Callable[[], Coroutine[Any, Any, T]]
    ) -> T:
        began = time.monotonic()
        found = await read()
        took = time.monotonic() - began
        self._found[key] = time.monotonic() + max(seconds, _REST * took), found
        return found
