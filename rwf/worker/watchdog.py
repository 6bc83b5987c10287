"""Watching the event loop from outside: naming what blocks it, and ending on time all the same."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Final

from rwf.errors import RwfError
from rwf.ops.base import OpContext
from rwf.ops.claims import release
from rwf.runtime import Beside
from rwf.worker.execution import Execution
from rwf.worker.inflight import Inflight

_log = logging.getLogger("rwf.worker")

# How often the loop is asked for a sign of life while handlers run, and how long it may take.
_EVERY: Final = 0.2
_SILENCE: Final = 1.0


class Watchdog:
    """Warns when a handler blocks the event loop, and gives back steps that a blocked loop cannot.

    ``changed`` is called when the loop is found blocked, and when it runs again. To be made in the
    event loop; its thread goes on when that does not.
    """

    def __init__(
        self,
        ctx: OpContext,
        beside: Beside,
        inflight: Inflight,
        overdue: Callable[[], None],
        changed: Callable[[], None],
    ):
        self.blocked: str | None = None
        """The code that blocks the loop just now."""
        self.blocked_since = 0.0
        """Since when, by the monotonic clock."""
        self._ctx = ctx
        self._beside = beside
        self._inflight = inflight
        self._overdue = overdue
        self._changed = changed
        self._loop = asyncio.get_running_loop()
        self._thread_id = threading.get_ident()
        self._alive = threading.Event()
        self._stopped = threading.Event()
        self._end: float | None = None
        self._ended = False

    def start(self) -> None:
        """Begins to watch."""
        threading.Thread(target=self._serve, name="rwf-watchdog", daemon=True).start()

    def stop(self) -> None:
        """Ends it."""
        self._stopped.set()

    def end_by(self, moment: float) -> None:
        """When the worker is to have ended, by the monotonic clock; from any thread."""
        if not self._ended:
            self._end = moment

    def _serve(self) -> None:
        while not self._stopped.wait(_EVERY):
            if self._inflight.running and not self._answers(_SILENCE):
                self._warn()
                self._wait_for_the_loop()
            self._end_if_overdue()
        self._beside.close()

    def _answers(self, seconds: float) -> bool:
        self._alive.clear()
        try:
            self._loop.call_soon_threadsafe(self._alive.set)
        except RuntimeError:  # the loop has ended
            self._stopped.set()
            return True
        return self._alive.wait(seconds)

    def _warn(self) -> None:
        frame = sys._current_frames().get(self._thread_id)
        execution = _running_in(frame)
        who = "something"
        if execution is not None:
            who = f"the handler {execution.context.claim.worker!r} of {execution.name},"
        place = _place(frame)
        self.blocked_since = time.monotonic() - _SILENCE
        self.blocked = f"{who} blocks the event loop{place}"
        self._changed()
        _log.warning("%s for %g s: all other handlers wait for it", self.blocked, _SILENCE)

    def _wait_for_the_loop(self) -> None:
        while not self._alive.wait(_EVERY) and not self._stopped.is_set():
            self._end_if_overdue()
        self.blocked = None
        self._changed()
        took = time.monotonic() - self.blocked_since
        _log.warning("the event loop runs again after %.1f s", took)

    def _end_if_overdue(self) -> None:
        """Gives running steps back when the loop has not done so in time."""
        if self._end is None or time.monotonic() < self._end:
            return
        self._end, self._ended = None, True
        claims = [execution.context.claim for execution in list(self._inflight.running.values())]
        claims += [pending.claim for pending in list(self._inflight.pending_inputs.values())]
        for execution in list(self._inflight.running.values()):
            execution.context._taken_away()
        try:
            self._beside.run(release(self._ctx, claims))
        except RwfError as error:
            _log.warning(
                "%d steps could not be given back, and stay leased until their leases end: %s",
                len(claims),
                error,
            )
        self._overdue()


def _running_in(frame: FrameType | None) -> Execution | None:
    """The attempt whose handler a thread is in."""
    while frame is not None:
        if frame.f_code is Execution._run.__code__:
            found = frame.f_locals.get("self")
            return found if isinstance(found, Execution) else None
        frame = frame.f_back
    return None


def _place(frame: FrameType | None) -> str:
    if frame is None:
        return ""
    return f" (in {frame.f_code.co_name}, {frame.f_code.co_filename}:{frame.f_lineno})"
