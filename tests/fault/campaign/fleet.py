"""The processes of a campaign: started, killed, paused, and started again."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.support.waiting import until

COUNTS: Final = {
    "inserter": 2,
    "signaller": 1,
    "operator": 1,
    "dispatcher": 1,
    "worker": 2,
    "executor": 1,
    "launcher": 1,
    "daemon": 2,
}
FINITE: Final = ("inserter", "signaller", "operator")
"""The roles that end by themselves, once their share is done."""
NAMES: Final = tuple(f"{role}-{index}" for role, n in COUNTS.items() for index in range(n))

_CLOCKS: Final = (3600, -3600, 0)
"""By how many seconds the clocks of the processes are off, in turn."""
_GRACE: Final = 120.0
_START: Final = 240.0


@dataclass
class Actor:
    """A place in the fleet, whichever process fills it."""

    name: str
    command: list[str]
    log: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def finite(self) -> bool:
        return self.name.partition("-")[0] in FINITE

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def send(self, number: signal.Signals) -> bool:
        """Sends a signal. Returns whether there was a process to send it to."""
        if self.process is None or self.process.poll() is not None:
            return False
        self.process.send_signal(number)
        return True

    def kill(self) -> bool:
        """Sends SIGKILL. Returns whether there was a process to kill."""
        if self.process is None or not self.send(signal.SIGKILL):
            return False
        self.process.wait()
        self.process = None
        return True


@dataclass
class Fleet:
    """All actors; a context manager that leaves none of them behind."""

    url: str
    folder: Path
    seed: int
    workflows: int
    pause: float
    crashes: list[str] = field(default_factory=list)
    """Processes that ended in error, without being killed."""

    def __post_init__(self) -> None:
        self.actors = {name: self._actor(number, name) for number, name in enumerate(NAMES)}

    def _actor(self, number: int, name: str) -> Actor:
        role, _, index = name.partition("-")
        options = {
            "url": self.url,
            "folder": self.folder,
            "seed": self.seed,
            "workflows": self.workflows,
            "pause": self.pause,
            "index": index,
            "of": COUNTS[role],
            "clock-off": _CLOCKS[number % len(_CLOCKS)],
        }
        command = [sys.executable, "-m", "tests.fault.campaign.actors", role]
        command += [f"--{option}={value}" for option, value in options.items()]
        return Actor(name, command, self.folder / f"{name}.log")

    def start(self) -> None:
        """Starts all, and returns when all are at work."""
        for actor in self.actors.values():
            actor.start()
        until(self._all_at_work, timeout=_START, what="the first of all processes")

    def _all_at_work(self) -> bool:
        return len(list(self.folder.glob("started-*"))) == len(self.actors)

    def mind(self) -> None:
        """Notes the processes that have crashed, and replaces them."""
        for actor in self.actors.values():
            if actor.process is None or (code := actor.process.poll()) is None:
                continue
            if code or not actor.finite:
                log = actor.log.read_text(errors="replace")
                self.crashes.append(f"{actor.name} ended by itself with {code}: {log[-1500:]}")
                actor.start()

    @property
    def share_done(self) -> bool:
        """Whether all that end by themselves have ended without error."""
        finite = [actor.process for actor in self.actors.values() if actor.finite]
        return all(process is not None and process.poll() == 0 for process in finite)

    def stop(self) -> None:
        """Sends SIGTERM to those that can end cleanly, which they must do."""
        for actor in self.actors.values():
            if actor.name.partition("-")[0] not in ("worker", "daemon"):
                actor.kill()
            else:
                actor.send(signal.SIGTERM)
        for actor in self.actors.values():
            if actor.process is not None and (code := actor.process.wait(_GRACE)):
                self.crashes.append(f"{actor.name} ended on SIGTERM with {code}")

    def __enter__(self) -> Fleet:
        return self

    def __exit__(self, *_: object) -> None:
        for actor in self.actors.values():
            actor.kill()
