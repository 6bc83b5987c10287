"""A process's notes, which outlive it: one JSON document a line.

A kill takes nothing back that was written: the machine, which keeps it, goes on.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson


class Journal:
    """One process's own file; entries are appended in one write each."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def note(self, **entry: Any) -> None:
        """Appends an entry."""
        os.write(self._file, orjson.dumps(entry) + b"\n")


class Reader:
    """Reads the journals whose names begin alike, each line once."""

    def __init__(self, folder: Path, prefix: str) -> None:
        self._folder = folder
        self._prefix = prefix
        self._read: dict[Path, int] = {}

    def new(self) -> Iterator[dict[str, Any]]:
        """The entries since the last time."""
        for path in sorted(self._folder.glob(f"{self._prefix}*")):
            with path.open("rb") as file:
                file.seek(self._read.get(path, 0))
                for line in file:
                    if not line.endswith(b"\n"):
                        break
                    self._read[path] = self._read.get(path, 0) + len(line)
                    yield orjson.loads(line)


def entries(folder: Path, prefix: str) -> list[dict[str, Any]]:
    """All entries of the journals whose names begin with ``prefix``."""
    return list(Reader(folder, prefix).new())
