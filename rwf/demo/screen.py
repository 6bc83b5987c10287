"""The output of the demo: a line that is rewritten on a terminal, else plain lines."""

from __future__ import annotations

import shutil
import time
from typing import Final, TextIO

_PLAIN_SECONDS: Final = 1.0
_CLEAR: Final = "\r\x1b[K"


class Screen:
    """Prints events, each on lines of its own, and progress between them; None prints nothing."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self._rewrites = stream is not None and stream.isatty()
        self._open = False
        self._last_plain = 0.0

    def tell(self, *lines: str) -> None:
        """Prints lines that stay."""
        if self._stream is not None:
            clear = _CLEAR if self._open else ""
            self._open = False
            print(clear + "\n".join(lines), file=self._stream, flush=True)

    def progress(self, line: str) -> None:
        """Shows where things stand: rewritten on a terminal, once a second elsewhere."""
        if self._stream is None:
            return
        if self._rewrites:
            # A line that wraps could not be rewritten.
            fitting = line[: shutil.get_terminal_size().columns - 1]
            print(f"{_CLEAR}{fitting}", end="", file=self._stream, flush=True)
            self._open = True
        elif time.monotonic() - self._last_plain >= _PLAIN_SECONDS:
            self._last_plain = time.monotonic()
            self.tell(line)
