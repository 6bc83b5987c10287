"""Telling that the server is away once, and once more that it is back."""

from __future__ import annotations

import logging
from collections.abc import Collection

from rwf.errors import RwfError

_log = logging.getLogger("rwf")


class Outage:
    """Which of several places do not answer; a place is a partition, or any other number."""

    def __init__(self) -> None:
        self._silent: set[int] = set()

    def failed(self, place: int, error: RwfError) -> None:
        """A call there has failed."""
        if not self._silent:
            _log.warning("nothing can be done, trying on: %s", error)
        self._silent.add(place)

    def answered(self, place: int) -> None:
        """A call there has worked."""
        self._left(self._silent - {place})

    def only(self, places: Collection[int]) -> None:
        """Forgets the places that nobody asks any more."""
        self._left(self._silent & set(places))

    def _left(self, silent: set[int]) -> None:
        if self._silent and not silent:
            _log.warning("all is answered again")
        self._silent = silent
