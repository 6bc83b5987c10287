"""Servers that hang: they run, hold their connections, and send no reply."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.servers import Server


@contextmanager
def hanging(*servers: Server) -> Iterator[None]:
    """Has these servers hang until the block ends."""
    for server in servers:
        os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for server in servers:
            os.kill(server.pid, signal.SIGCONT)


class Stopwatch:
    """``with Stopwatch() as watch: ...``, and then ``watch.passed``, and ``watch.seconds``.

    The latter leaves out the time for which this process's threads and its servers waited for a
    processor, so that the load of the machine does not make anything late.
    """

    passed = 0.0
    seconds = 0.0

    def __enter__(self) -> Stopwatch:
        self._queued = _queued()
        self._began = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        self.passed = time.monotonic() - self._began
        now = _queued()
        waited = sum(now[task] - self._queued.get(task, 0.0) for task in now)
        self.seconds = max(self.passed - waited, 0.0)


def _queued() -> dict[str, float]:
    """Seconds for which each thread of this process and of its children has waited for a
    processor since its start."""
    tasks = list(Path("/proc/self/task").iterdir())
    children = [pid for task in tasks for pid in _text(task / "children").split()]
    tasks += [task for pid in children for task in Path(f"/proc/{pid}/task").glob("*")]
    read = {task.name: _text(task / "schedstat").split() for task in tasks}
    return {name: int(fields[1]) / 1e9 for name, fields in read.items() if fields}


def _text(file: Path) -> str:
    """Nothing, where the task has ended."""
    with suppress(OSError):
        return file.read_text()
    return ""
