"""Lints the server's Lua with luacheck (Debian's ``lua-check``): ``python tools/lint_lua.py``.

The files of ``lua/`` share their names as parts of one library, so it is the assembled text that is
checked; what is found is told by file and line.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys

from rwf.protocol.library import library

_OPTIONS = ("--formatter", "plain", "--codes", "--std", "lua51", "--max-line-length", "130")
_FOUND = re.compile(r"^stdin:(\d+):(\d+): (.*)$", re.MULTILINE)


def main() -> int:
    luacheck = shutil.which("luacheck")
    if luacheck is None:
        print("luacheck is missing: apt-get install lua-check", file=sys.stderr)
        return 2
    text, lines = library().text, library().lines
    run = subprocess.run(  # noqa: S603 - our own text
        [luacheck, *_OPTIONS, "--read-globals", "redis", "--", "-"],
        input=text.replace("#!", "--", 1),
        capture_output=True,
        text=True,
        check=False,
    )
    found = 0
    for number, column, message in _FOUND.findall(run.stdout):
        file, line = lines[int(number) - 1]
        print(f"lua/{file}:{line}:{column}: {message}")
        found += 1
    if run.returncode and not found:
        print(run.stdout + run.stderr, file=sys.stderr)
    return 1 if found or run.returncode else 0


if __name__ == "__main__":
    sys.exit(main())
