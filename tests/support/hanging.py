"""Servers that hang: they run, hold their connections, and answer nobody."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.servers import Server


@contextmanager
def hanging(*servers: Server) -> Iterator[None]:
    """These servers answer nobody, until the block ends."""
    for server in servers:
        os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for server in servers:
            os.kill(server.pid, signal.SIGCONT)


class Stopwatch:
    """``with Stopwatch() as watch: ...`` and then ``watch.seconds``."""

    seconds = 0.0

    def __enter__(self) -> Stopwatch:
        self._began = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.monotonic() - self._began
