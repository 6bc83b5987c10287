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


def table_fitted(line: str) -> Iterator[str]:
    """A line that may end with a table's constructor, broken within that if it is too long."""
    head, opens, items = line.removesuffix(" }").partition("{ ")
    if len(line) <= WIDTH or not opens or not line.endswith(" }"):
        yield line
        return
    indent = " " * (len(line) - len(line.lstrip()))
    yield f"{head}{{"
    yield from wrapped(items.split(", "), f"{indent}  ")
    yield f"{indent}}}"
