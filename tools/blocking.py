"""Makes the blocking code out of the asyncio code: ``python tools/blocking.py [--check]``.

The client and its transport are written once, as asyncio code; their blocking twins are this
script's output: that code without ``async`` and ``await``, with the names and sentences below
replaced. ``--check`` writes nothing, and ends with 1 when a twin is not up to date. Where the two
differ in more than words, the difference is a module of its own on each side, written by hand, with
the same interface.
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tokenize
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]

PACKAGES: Final = {
    "rwf/aio": "rwf/client",
    "rwf/transport/aio": "rwf/transport/blocking",
}
"""Each package on asyncio, and the one that is made of it."""

BY_HAND: Final = frozenset({"__init__.py", "concurrency.py", "connecting.py"})
"""The files of ``rwf/transport/aio`` that have a counterpart written by hand."""

NAMES: Final = {
    "redis.asyncio": "redis",
    "rwf.aio": "rwf.client",
    "rwf.transport.aio": "rwf.transport.blocking",
    "deliver_async": "deliver",
    "fake_async_redis": "fake_redis",
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "aclose": "close",
    "aclosing": "closing",
    "asynccontextmanager": "contextmanager",
    "enter_async_context": "enter_context",
}
"""Names that are replaced everywhere, in docstrings too. Names that begin with ``Async`` lose
it."""

SENTENCES: Final = {
    '"""The client on asyncio. ``rwf.client`` is made of it by ``tools/blocking.py``."""': (
        '"""The blocking client."""'
    ),
    "access to its workflows, on asyncio; to be used from one event loop.": (
        "access to its workflows; safe to share between threads."
    ),
    """\
        A plain handler is called in a thread. A coroutine function runs in the event loop, and is
        cancelled at the end of its lease.
""": """\
        The handler is called in a thread. It may not be a coroutine function.
""",
}
"""Sentences of the documentation that differ on the blocking side."""

HEADER: Final = "# Made of {source} by tools/blocking.py: do not edit.\n"

_DROPPED: Final = ("async", "await")
_NAME: Final = re.compile(rf"\b({'|'.join(map(re.escape, NAMES))})\b")
_PREFIX: Final = re.compile(r"\bAsync(?=[A-Z])")
_OWN_RULES: Final = re.compile(r"  # noqa: ASYNC\d+[^\n]*")


def twins() -> dict[Path, Path]:
    """Each file on asyncio, and the one that is made of it."""
    return {
        source: ROOT / made / source.name
        for package, made in PACKAGES.items()
        for source in sorted((ROOT / package).glob("*.py"))
        if package == "rwf/aio" or source.name not in BY_HAND
    }


def blocking(source: str) -> str:
    """The blocking code for asyncio code, not yet formatted."""
    for said, instead in SENTENCES.items():
        source = source.replace(said, instead)
    lines = source.splitlines(keepends=True)
    for token in reversed(list(tokenize.generate_tokens(io.StringIO(source).readline))):
        if token.type == tokenize.NAME and token.string in _DROPPED:
            row, column = token.start
            line = lines[row - 1]
            lines[row - 1] = line[:column] + line[token.end[1] :].lstrip(" ")
    text = _OWN_RULES.sub("", "".join(lines))
    return _PREFIX.sub("", _NAME.sub(lambda match: NAMES[match[0]], text))


def formatted(text: str, path: Path) -> str:
    """The text as ruff formats it, with its imports sorted and its ``with`` statements joined."""
    rules = ("--select", "I,SIM117", "--fix-only", "--quiet")
    for command in (("check", *rules), ("format", "--quiet")):
        text = subprocess.run(  # noqa: S603 - our own tool, on our own text
            [sys.executable, "-m", "ruff", *command, "--stdin-filename", str(path), "-"],
            input=text,
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
        ).stdout
    return text


def check_sentences(sources: str) -> None:
    """Raises SystemExit for a sentence that is in none of the sources any more."""
    if stale := [said for said in SENTENCES if said not in sources]:
        raise SystemExit(f"tools/blocking.py replaces what nobody says: {stale}")


def main() -> int:
    check = "--check" in sys.argv
    check_sentences("".join(source.read_text() for source in twins()))
    stale = 0
    for source, made in twins().items():
        header = HEADER.format(source=source.relative_to(ROOT))
        text = formatted(header + blocking(source.read_text()), made)
        if made.exists() and made.read_text() == text:
            continue
        stale += 1
        print(f"{made.relative_to(ROOT)}: {'is not up to date' if check else 'written'}")
        if not check:
            made.write_text(text)
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
