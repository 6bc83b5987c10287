"""Whether the server answers, as the loops of a worker note it: they wait for it together."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Hashable
from typing import Final

from rwf.availability import AvailabilityLog
from rwf.errors import NamespaceMismatch, RwfError, StoreMisconfigured, StoreUnavailable

_log = logging.getLogger("rwf.worker")

PAUSE: Final = 0.5
"""Seconds between two tries of an unreachable server."""
_AWAY: Final = (StoreUnavailable, StoreMisconfigured, NamespaceMismatch)


class Availability:
    """The state of the connection, told by the worker's loops and threads. They go on for ever: a
    server comes back. A ``place`` is what is asked, such as a partition."""

    def __init__(self) -> None:
        self._availability = AvailabilityLog(_log)
        self._fault: str | None = None
        self._lock = threading.Lock()

    @property
    def error(self) -> str | None:
        """The reason why the server is not reached, or the error of the latest call that failed."""
        return self._availability.error or self._fault

    def answered(self, place: Hashable) -> None:
        """Notes that the server has answered at this place."""
        if self._fault is not None or self._availability.error is not None:
            with self._lock:
                self._fault = None
                self._availability.answered(place)

    def failed(self, error: Exception, place: Hashable) -> bool:
        """A call has failed there: whether that is the server's state, which is to be waited for,
        and not the call's own fault."""
        with self._lock:
            if isinstance(error, _AWAY):
                self._availability.failed(error, place)
                return True
            self._fault = str(error) if isinstance(error, RwfError) else type(error).__name__
        expected = isinstance(error, RwfError)
        _log.error("a call has failed: %s", self._fault, exc_info=None if expected else error)
        return False

    async def broken(self, error: Exception, place: Hashable) -> bool:
        """Tells of a failed call like :meth:`failed`, and pauses before the next try."""
        away = self.failed(error, place)
        if away:
            await asyncio.sleep(PAUSE)
        return away
