"""Makes the blocking code out of the asyncio code: ``python tools/blocking.py [--check]``.

What talks to a user or a server exists once, as asyncio code; its blocking twin is this script's
output, word for word the same but for what is listed here. ``--check`` writes nothing, and ends
with 1 when a twin is not up to date. Where the two have to differ in more than words, the
difference is a small module of its own for each, and the import of one becomes that of the other.
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tokenize
from pathlib import Path

ROOT = Path(__file__).parents[1]

TWINS = {
    "rwf/aio.py": "rwf/client.py",
}
"""Each asyncio file, and the blocking one that is made of it."""

DROPPED = {"async", "await"}

NAMES = {
    "AsyncClient": "Client",
    "AsyncStore": "SyncStore",
    "AsyncIterator": "Iterator",
    "AsyncGenerator": "Generator",
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "__aiter__": "__iter__",
    "__anext__": "__next__",
    "StopAsyncIteration": "StopIteration",
    "aclosing": "closing",
    "aclose": "close",
    "anext": "next",
    "aiter": "iter",
    "asynccontextmanager": "contextmanager",
}
"""Names that are replaced wherever they stand as a word, in docstrings too."""

SENTENCES = {
    "The asyncio client": "The blocking client",
}
"""What prose says otherwise."""

HEADER = "# Made of {source} by tools/blocking.py; do not edit.\n"


def blocking(source: str) -> str:
    """The blocking code for a file of asyncio code."""
    found: list[tokenize.TokenInfo] = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        found.append(token)
    lines = source.splitlines(keepends=True)
    for token in reversed(found):
        row, column = token.start
        if token.type == tokenize.NAME and token.string in DROPPED:
            line = lines[row - 1]
            lines[row - 1] = line[:column] + line[token.end[1] :].lstrip(" ")
    text = "".join(lines)
    names = "|".join(sorted(NAMES, key=len, reverse=True))
    text = re.sub(rf"\b({names})\b", lambda match: NAMES[match[1]], text)
    for said, instead in SENTENCES.items():
        text = text.replace(said, instead)
    return text


def formatted(text: str, name: str) -> str:
    """The text as ruff formats it, with its imports sorted."""
    ruff = [sys.executable, "-m", "ruff"]
    sort = ["check", "--fix-only", "--select", "I,F401", "--quiet"]
    for command in (sort, ["format", "--quiet"]):
        done = subprocess.run(  # noqa: S603 - our own tool, on our own text
            [*ruff, *command, "--stdin-filename", name, "-"],
            input=text,
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
        )
        text = done.stdout
    return text


def twin(source: str, target: str) -> str:
    """The text that a target should have."""
    text = blocking((ROOT / source).read_text())
    return formatted(HEADER.format(source=source) + text, target)


def main() -> int:
    stale = []
    for source, target in TWINS.items():
        text = twin(source, target)
        if (ROOT / target).read_text() != text:
            stale.append(target)
            if "--check" not in sys.argv:
                (ROOT / target).write_text(text)
    for target in stale:
        print(f"{target}: {'is not up to date' if '--check' in sys.argv else 'written'}")
    return 1 if stale and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
