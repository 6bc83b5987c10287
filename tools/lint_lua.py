"""Lints the server's Lua with luacheck (Debian's ``lua-check``): ``python tools/lint_lua.py``.

The files of ``lua/`` are parts of one library and use each other's names, so the assembled text is
checked; findings name the file and line. Where luacheck is missing, that is printed and nothing is
checked; with ``RWF_REQUIRE_SERVERS=1`` in the environment it is a failure.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys

from rwf.protocol.library import Library, library

OPTIONS = (
    *("--formatter", "plain"),
    "--codes",
    *("--std", "lua51"),
    *("--read-globals", "redis"),
    *("--max-line-length", "130"),
)
_FOUND = re.compile(r"^stdin:(\d+):(\d+): (.*)$", re.MULTILINE)


def findings(luacheck: str, checked: Library) -> list[str]:
    """The findings of luacheck in a library, each with its place; raises RuntimeError when it
    cannot be run."""
    run = subprocess.run(  # noqa: S603 - our own text
        [luacheck, *OPTIONS, "--", "-"],
        input=checked.text.replace("#!", "--", 1),
        capture_output=True,
        text=True,
        check=False,
    )
    found = []
    for number, column, message in _FOUND.findall(run.stdout):
        file, line = checked.lines[int(number) - 1]
        found.append(f"lua/{file}:{line}:{column}: {message}")
    if run.returncode and not found:
        raise RuntimeError(run.stdout + run.stderr)
    return found


def main() -> int:
    luacheck = shutil.which("luacheck")
    if luacheck is None:
        print("SKIPPED: luacheck is missing (apt-get install lua-check)")
        return int(os.environ.get("RWF_REQUIRE_SERVERS") == "1")
    found = findings(luacheck, library())
    print("\n".join(found), end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
