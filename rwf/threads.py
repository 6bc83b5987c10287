"""Threads for blocking calls, which hand their results to an event loop in bunches."""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Final

Done = tuple[Any, BaseException | None]
"""The value that a call returned, and the exception that it raised."""

_END: Final = None


class Job:
    """A call to be made in a thread. ``future`` gets what came of it, as a value: no exception of
    the call is raised through it, as some must not be."""

    __slots__ = ("_taken", "abandoned", "begun_at", "function", "future", "over")

    def __init__(self, function: Callable[[], Any], future: asyncio.Future[Done]) -> None:
        self.function = function
        self.future = future
        self.begun_at: float | None = None
        """When a thread began it, by the monotonic clock."""
        self.abandoned = False
        self.over = False
        self._taken = threading.Lock()

    def take(self) -> bool:
        """Makes the job the caller's, a thread to begin it or someone who wants it not to begin;
        false when another was first."""
        return self._taken.acquire(blocking=False)


class _State:
    """State that the threads of one pool share with their loop; changed in the loop alone, but for
    the queue of results."""

    def __init__(self, freed: Callable[[], None]) -> None:
        self.loop = asyncio.get_running_loop()
        self.jobs: SimpleQueue[Job | None] = SimpleQueue()
        self.busy = 0
        self.abandoned = 0
        self._done: deque[tuple[Job, Any, BaseException | None]] = deque()
        self._told = False
        self._freed = freed

    def serve(self) -> None:
        """Makes calls, one after the other, until it is asked to end."""
        while (job := self.jobs.get()) is not _END:
            if not job.take():
                continue
            job.begun_at = time.monotonic()
            result, error = None, None
            try:
                result = job.function()
            except BaseException as raised:
                error = raised
            self._done.append((job, result, error))
            del job, result, error
            if not self._told:
                self._told = True
                try:
                    self.loop.call_soon_threadsafe(self._deliver)
                except RuntimeError:
                    return  # the loop has ended, and nobody waits for the result
        self.jobs.put(_END)

    def _deliver(self) -> None:
        self._told = False
        freed = False
        while self._done:
            job, result, error = self._done.popleft()
            self.busy -= 1
            job.over = True
            if job.abandoned:
                self.abandoned -= 1
                freed = True
            if not job.future.done():
                job.future.set_result((result, error))
        if freed:
            self._freed()


class Threads:
    """Up to ``limit`` daemon threads, started as they are needed, and ended with this object.

    Unlike an executor's they do not keep a process from ending: a call that hangs is left behind.
    ``freed`` is called in the loop when a call has ended that was abandoned. To be made and used in
    the event loop.
    """

    def __init__(self, limit: int, name: str, freed: Callable[[], None] = lambda: None) -> None:
        self._limit = limit
        self._name = name
        self._started = 0
        self._state = _State(freed)
        weakref.finalize(self, self._state.jobs.put, _END)

    def close(self) -> None:
        """Ends its threads, those that are busy after their call. Nothing is submitted later."""
        self._state.jobs.put(_END)

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop that it hands results to."""
        return self._state.loop

    @property
    def abandoned(self) -> int:
        """How many threads are busy with a call that nobody waits for."""
        return self._state.abandoned

    def submit(self, function: Callable[[], Any]) -> tuple[Job, bool]:
        """Calls the function in a thread; returns whether one is free to begin at once."""
        state = self._state
        job = Job(function, state.loop.create_future())
        state.busy += 1
        if self._started < min(state.busy, self._limit):
            try:
                threading.Thread(target=state.serve, name=self._name, daemon=True).start()
            except RuntimeError:
                pass  # the system has no more of them; the next that is free begins it
            else:
                self._started += 1
        state.jobs.put(job)
        return job, state.busy <= self._started

    async def run(self, function: Callable[[], Any]) -> Any:
        """Runs the function in a thread; returns or raises as it does. Cancelled, it runs on
        unheard."""
        job, _ = self.submit(function)
        try:
            result, error = await job.future
        except asyncio.CancelledError:
            self.abandon(job)
            raise
        if error is not None:
            raise error
        return result

    def withdraw(self, job: Job) -> bool:
        """Prevents a job from beginning; false when it has begun."""
        if not job.take():
            return False
        job.over = True
        self._state.busy -= 1
        return True

    def abandon(self, job: Job) -> None:
        """Nobody waits for the job any more: it never begins, or its thread is busy until it ends
        by itself."""
        if not self.withdraw(job) and not job.over and not job.abandoned:
            job.abandoned = True
            self._state.abandoned += 1
