"""The demo's worker processes: started, watched, killed."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from rwf.demo.source import DemoFailed
from rwf.demo.worker import now_path

_END_SECONDS: Final = 5.0


class Workers:
    """Worker processes, numbered from 1. ``stop`` ends them all."""

    def __init__(self, url: str, namespace: str, folder: Path) -> None:
        self._options = ["--url", url, "--namespace", namespace, "--folder", str(folder)]
        self._folder = folder
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        self._started = 0

    def start(self) -> tuple[int, int]:
        """Starts one more; returns its number and its process id."""
        self._started += 1
        number = self._started
        now_path(self._folder, number).write_text("")
        command = [sys.executable, "-m", "rwf.demo.worker", *self._options]
        command += ["--number", str(number), "--parent", str(os.getpid())]
        with self._log(number).open("wb") as log:
            # A session of its own: Ctrl-C ends the demo, which then ends its workers.
            process = subprocess.Popen(  # noqa: S603 - our own module
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self._running[number] = process
        return number, process.pid

    def busy(self) -> int | None:
        """The number of a worker that is in the middle of a step just now, if one is."""
        for number in self._running:
            with contextlib.suppress(OSError):
                if now_path(self._folder, number).read_text():
                    return number
        return None

    def kill(self, number: int) -> tuple[int, str]:
        """Ends one with SIGKILL; returns its process id and what it was doing."""
        process = self._running.pop(number)
        process.kill()
        process.wait()
        # Read now that it cannot go on, so that it is what it was killed in.
        return process.pid, now_path(self._folder, number).read_text() or "nothing"

    def check(self) -> None:
        """Raises DemoFailed when one has ended on its own."""
        for number, process in self._running.items():
            if process.poll() is not None:
                lines = self._log(number).read_text(errors="replace").strip().splitlines()
                last = lines[-1] if lines else f"exit code {process.returncode}"
                raise DemoFailed(f"worker {number} has ended: {last}")

    def stop(self) -> None:
        """Ends all that run, and waits for them."""
        for process in self._running.values():
            process.terminate()
        for process in self._running.values():
            try:
                process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._running.clear()

    def _log(self, number: int) -> Path:
        return self._folder / "workers" / f"{number}.log"
