"""Servers whose clock moves in steps, to find code that relies on the clock's having moved.

``RWF_TEST_CLOCK_MS=20 make test T=...`` has the milliseconds of the servers that the tests start
stand still for 20 ms at a time, as if a fast machine did much in one. It needs a C compiler.
"""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

_SOURCE: Final = Path(__file__).with_suffix(".c")
COARSE: Final = bool(os.environ.get("RWF_TEST_CLOCK_MS"))
# It counts on from the time of day by the processor's own counter.
_UNABLE: Final = "valkey91"
NEWEST: Final = "valkey81" if COARSE else "valkey91"
"""The newest kind of server that is tested with such a clock."""


def environment(kind: str) -> dict[str, str] | None:
    """The environment of a server of a kind; None to inherit this process's."""
    if not COARSE or kind == _UNABLE:
        return None
    return {**os.environ, "LD_PRELOAD": str(_built())}


@functools.cache
def _built() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="rwf-clock-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    library = folder / "coarse_clock.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", library, _SOURCE], check=True)
    return library
