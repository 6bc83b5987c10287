"""Logs once that the server is unavailable, and once that it is back."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Hashable

from rwf.errors import RwfError


class AvailabilityLog:
    """Which of several places do not answer, told to a log; a place is a partition, or whatever
    else is told apart by name or number.

    ``error`` is what the latest failed call said, None while all places answer.
    """

    def __init__(self, log: logging.Logger) -> None:
        self.error: str | None = None
        self._log = log
        self._silent: set[Hashable] = set()
        self._since = 0.0

    def failed(self, error: RwfError, place: Hashable = 0) -> None:
        """A call there has failed."""
        if not self._silent:
            self._since = time.monotonic()
            self._log.warning("the server is unavailable; trying again: %s", error)
        self._silent.add(place)
        self.error = str(error)

    def answered(self, place: Hashable = 0) -> None:
        """A call there has worked."""
        self._left(self._silent - {place})

    def is_available(self, place: Hashable) -> bool:
        """Whether a place is not known to be silent."""
        return place not in self._silent

    def only(self, places: Collection[Hashable]) -> None:
        """Forgets the places that nobody asks any more."""
        self._left(self._silent & set(places))

    def _left(self, silent: set[Hashable]) -> None:
        if self._silent and not silent:
            self._log.warning("the server is back after %.1f s", time.monotonic() - self._since)
            self.error = None
        self._silent = silent
