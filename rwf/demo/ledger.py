"""The ledger: a file with one line for each step that took effect, however often it was done."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path


class Ledger:
    """A file of JSON lines that processes share; each step of a workflow stands in it once."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, workflow_id: str, step: str, effect: str) -> bool:
        """Adds a line and returns once it is on disk; False when the step stands there already.

        A step is done again when its worker was killed after this and before it reported.
        """
        with self._path.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            data = file.read()
            whole = data.rfind(b"\n") + 1
            if whole < len(data):
                # The rest of a line that a killed writer began.
                file.truncate(whole)
            if (workflow_id, step) in _steps(data[:whole]):
                return False
            line = {"workflow_id": workflow_id, "step": step, "effect": effect}
            file.write(json.dumps(line).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
            return True

    def steps(self) -> list[tuple[str, str]]:
        """Workflow id and step of every line, in their order."""
        try:
            return _steps(self._path.read_bytes())
        except FileNotFoundError:
            return []


def _steps(data: bytes) -> list[tuple[str, str]]:
    lines = [json.loads(line) for line in data.splitlines()]
    return [(line["workflow_id"], line["step"]) for line in lines]
