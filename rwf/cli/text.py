"""Text for terminals: what users gave is escaped, tables are aligned, times are short."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from rwf.model.names import escaped

_SHOWN: Final = 2000
"""Characters of a payload shown to a reader; ``--json`` has all of it."""
_LEAST_COLUMNS: Final = 80
_LEAST_CELL: Final = 7
"""Columns that a terminal is taken to have at least, and that a cell keeps when it is cut."""


# Rather too much than too little: what was not encoded may hold anything.
_LOGIN: Final = re.compile(r"(?<=//).+(?=@)|(?<=password=)[^&]+", re.DOTALL)


def without_passwords(text: str) -> str:
    """The text without the logins of URLs in it: an argument in the wrong place may be one."""
    return _LOGIN.sub("***", text)


def compact(value: Any) -> str:
    """A JSON value on one line, cut when it is long."""
    text = escaped(json.dumps(value, ensure_ascii=False))
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text)} characters)"


def moment(time: datetime | None) -> str:
    """A time in UTC, to the second; "-" for None."""
    return "-" if time is None else f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}"


def length(since: datetime, until: datetime) -> str:
    """How long it is between two times, in the largest unit of which it has two or more."""
    seconds = max((until - since).total_seconds(), 0.0)
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{int(seconds / size)} {unit}"
    return f"{int(seconds)} s"


def table_width() -> int | None:
    """How many columns a table may have: those of the terminal; None where nobody looks, and
    whoever reads is to have all of it."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def table(
    head: Sequence[str], rows: Iterable[Sequence[object]], *, whole: Collection[str] = ()
) -> list[str]:
    """Lines with aligned columns, under a heading; nothing without rows.

    A time is told to the second or, on a terminal, as how long ago it was. There the widest columns
    are cut until the lines fit, but for those of the headings in ``whole``.
    """
    columns = table_width()
    cells = [[_cell(cell, columns is not None) for cell in row] for row in rows]
    if not cells:
        return []
    cells.insert(0, list(head))
    widths = [max(len(row[place]) for row in cells) for place in range(len(head))]
    if columns is not None:
        _fit(widths, [name not in whole for name in head], columns)
    return [
        "  ".join(_cut(cell, width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]


def _cell(value: object, short: bool) -> str:
    if isinstance(value, datetime):
        return f"{length(value, datetime.now(UTC))} ago" if short else moment(value)
    return "-" if value is None else escaped(str(value))


def _fit(widths: list[int], may: Sequence[bool], columns: int) -> None:
    """Makes the widest of the columns that may be cut narrower until all fit."""
    room = max(columns, _LEAST_COLUMNS) - 2 * (len(widths) - 1)
    while sum(widths) > room:
        places = [at for at, width in enumerate(widths) if may[at] and width > _LEAST_CELL]
        if not places:
            return
        widths[max(places, key=widths.__getitem__)] -= 1


def _cut(cell: str, width: int) -> str:
    return f"{cell[: width - 1]}…" if len(cell) > width else cell.ljust(width)
