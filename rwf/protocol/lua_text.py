"""Laying out generated Lua in lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

WIDTH: Final = 100


def wrapped(items: Iterable[str], indent: str) -> Iterator[str]:
    """The items, each followed by a comma, in lines of at most WIDTH characters where they fit."""
    line = indent
    for item in items:
        separator = "" if line == indent else " "
        if line != indent and len(line) + len(separator) + len(item) + 1 > WIDTH:
            yield line
            line, separator = indent, ""
        line += f"{separator}{item},"
    if line != indent:
        yield line
