# Made of rwf/transport/aio/sentinels.py by tools/blocking.py: do not edit.
"""Sentinels, asked by several threads or tasks at once.

redis-py has whoever was told of a primary move the Sentinel that told it to the front of one list,
over which others iterate meanwhile. Of two that were told by the same Sentinel, behind one that was
not of help, the second writes it over another one: that Sentinel is never asked again, and its
connection is left to the garbage collector. So each call here asks along a list of its own.
"""

from __future__ import annotations

import copy
from typing import Any

import redis.sentinel


class Sentinels(redis.sentinel.Sentinel):
    """The Sentinels that a client asks for its primary."""

    def discover_master(self, service_name: str) -> Any:
        """The primary's host and port; raises MasterNotFoundError."""
        one = copy.copy(self)
        one.sentinels = list(self.sentinels)
        # redis-py leaves it untyped.
        ask: Any = super(Sentinels, one).discover_master
        found = ask(service_name)
        self.sentinels = one.sentinels
        return found
