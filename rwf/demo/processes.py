"""The demo's workers, daemons and console, each a process: started, watched, killed."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from rwf.demo.source import DemoFailed

_END_SECONDS: Final = 5.0

Role = Literal["worker", "daemon", "console"]


@dataclass(frozen=True, slots=True)
class Process:
    """One process; numbers begin at 1 and never come again."""

    role: Role
    number: int
    popen: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        return self.popen.pid


class Processes:
    """All of them. ``stop`` ends those that run."""

    def __init__(self, url: str, namespace: str, folder: Path) -> None:
        self._options = ["--url", url, "--namespace", namespace, "--folder", str(folder)]
        self._folder = folder
        self._running: list[Process] = []
        self._started = 0

    def start(self, role: Role) -> Process:
        """Starts one more."""
        self._started += 1
        number = self._started
        command = [sys.executable, "-m", "rwf.demo.process", role, *self._options]
        command += ["--number", str(number), "--parent", str(os.getpid())]
        with self._log(number).open("wb") as log:
            # A session of its own: Ctrl-C ends the demo, which then ends its processes.
            popen = subprocess.Popen(  # noqa: S603 - our own module
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        process = Process(role, number, popen)
        self._running.append(process)
        return process

    def running(self, role: Role) -> list[Process]:
        """The processes of a role that run."""
        return [process for process in self._running if process.role == role]

    def kill(self, process: Process) -> None:
        """Ends one with SIGKILL."""
        self._running.remove(process)
        process.popen.kill()
        process.popen.wait()

    def check(self) -> None:
        """Raises DemoFailed when one has ended on its own."""
        for process in self._running:
            if process.popen.poll() is not None:
                lines = self._log(process.number).read_text(errors="replace").strip().splitlines()
                last = lines[-1] if lines else f"exit code {process.popen.returncode}"
                raise DemoFailed(f"{process.role} {process.number} has ended: {last}")

    def stop(self) -> None:
        """Ends all that run, and waits for them."""
        for process in self._running:
            process.popen.terminate()
        for process in self._running:
            try:
                process.popen.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                process.popen.kill()
                process.popen.wait()
        self._running.clear()

    def _log(self, number: int) -> Path:
        return self._folder / "processes" / f"{number}.log"
