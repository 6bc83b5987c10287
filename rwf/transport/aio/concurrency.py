"""Waiting, locking and running calls side by side, with asyncio tasks.

``rwf.transport.blocking.concurrency`` is its counterpart for threads, with the same names.
"""

from __future__ import annotations

import asyncio
from asyncio import Event, sleep
from asyncio import timeout as time_limit
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import nullcontext, suppress
from typing import Any, TypeVar

T = TypeVar("T")
S = TypeVar("S")

__all__ = ["Event", "Listener", "Lock", "SideBySide", "call", "sleep", "time_limit", "wait_for"]

Lock = nullcontext
"""No lock is needed: code under it awaits nothing, so no other task can come between."""


async def call(function: Callable[[], T]) -> T:
    """The result of a function that blocks."""
    return await asyncio.to_thread(function)


async def wait_for(event: Event, seconds: float) -> None:
    """Waits that long, or until the event is set."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


class SideBySide:
    """Calls that are made at the same time."""

    def __init__(self, name: str, limit: int) -> None:
        pass

    async def map(self, function: Callable[[S], Awaitable[T]], items: Sequence[S]) -> list[T]:
        """The function's results, in the order of its arguments."""
        return await asyncio.gather(*map(function, items))

    def close(self) -> None:
        """Nothing: the tasks have ended with their calls."""


class Listener:
    """A task of its own for what goes on in the background."""

    def __init__(self, main: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        self._task = asyncio.create_task(main(), name=name)

    async def close(self) -> None:
        """Ends it."""
        self._task.cancel()
        await asyncio.wait([self._task])
