"""Shared by the tests of ``test_wait.py`` in ``contract/`` and ``internals/``."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rwf import Client
from tests.support.flows import raw

# Generous, as machines are slow. The tests ask that a wait ends at all, or long before this.
LONG = 30.0


@contextmanager
def later(work: Any) -> Iterator[None]:
    """Runs this in another thread, once a wait has begun."""
    thread = threading.Timer(0.3, work)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def subscribed(client: Client) -> bool:
    """Whether there is a subscriber to the hints of partition 0."""
    [(_, count)] = raw(client).pubsub_numsub("rwf:{0}:events")
    return bool(count)
