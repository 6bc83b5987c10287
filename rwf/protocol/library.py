"""Assembles ``lua/`` into one Redis Functions library, named after the hash of its text."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from rwf.protocol.functions import FUNCTIONS
from rwf.protocol.lua_arguments import check_signature

# In the order in which they are loaded: each uses only those before it.
LIBS: Final = (
    "integer", "states", "codec", "keyslots", "header", "record", "branching", "links",
    "transaction", "backoff", "queue", "results", "evidence", "outbox", "waits", "throughput",
    "transitions", "versions", "propagate", "growth", "attempts", "expiry", "claims", "pauses",
    "sweep", "requests", "recovery", "dispatch", "flush", "leases", "staging", "topic", "repair",
    "listing", "bulk", "arguments",
)  # fmt: skip

# By whether a function only reads, and whether it is carried out past maxmemory.
_FLAGS: Final = {
    (True, False): ["flags = {'no-writes'},"],
    (False, True): ["flags = {'allow-oom'},"],
    (False, False): [],
}


def lua_folder() -> Path:
    """Where the Lua lies: inside an installed package, or beside it in a checkout."""
    inside = Path(__file__).parent.parent / "_lua"
    return inside if inside.is_dir() else inside.parent.parent / "lua"


@dataclass(frozen=True, slots=True)
class Library:
    """The assembled library. ``lines`` maps each of its lines to a file and a line there."""

    name: str
    text: str
    lines: tuple[tuple[str, int], ...]

    def function(self, name: str) -> str:
        """The server's name of one of our functions."""
        return f"{self.name}_{name}"

    def locate(self, message: str) -> str:
        """A server's error message, with ``user_function:LINE`` turned into a place in ``lua/``."""

        def place(match: re.Match[str]) -> str:
            number = int(match[1])
            if not 0 < number <= len(self.lines):
                return match[0]
            file, line = self.lines[number - 1]
            return f"lua/{file}:{line}"

        return re.sub(r"@?user_function:(\d+)", place, message)


@cache
def library() -> Library:
    """The library of this release."""
    folder = lua_folder()
    body = [*_wrapped(folder, "lib/prelude.lua", [], "")]
    for lib in LIBS:
        body += _wrapped(folder, f"lib/{lib}.lua", [f"local {lib} = (function()"], "end)()")
    for function in FUNCTIONS.values():
        file = f"functions/{function.name}.lua"
        check_signature(function, (folder / file).read_text())
        flags = _FLAGS[function.reads_only, function.when_full]
        body += _wrapped(
            folder,
            file,
            [
                "redis.register_function{",
                f"function_name = '@LIBRARY@_{function.name}',",
                *flags,
                f"callback = resolving(arguments.{function.name}((function()",
            ],
            "end)()))}",
        )
    code = "\n".join(line for _, _, line in body) + "\n"
    name = "rwf_" + hashlib.sha256(code.encode()).hexdigest()[:12]
    text = f"#!lua name={name}\n" + code.replace("@LIBRARY@", name)
    return Library(name, text, (("", 1), *((file, line) for file, line, _ in body)))


def _wrapped(
    folder: Path, file: str, before: Iterable[str], after: str
) -> Iterable[tuple[str, int, str]]:
    """Each line with the file it is of and its number there, 0 for what stands around the file."""
    yield from ((file, 0, line) for line in before)
    for number, line in enumerate((folder / file).read_text().splitlines(), 1):
        yield file, number, line
    yield file, 0, after
