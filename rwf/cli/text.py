"""Text for terminals: what users gave is escaped, tables are aligned, times are short."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from rwf.model.names import escaped

_SHOWN: Final = 2000
"""Characters of a payload shown to a reader; ``--json`` has all of it."""


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


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Lines with aligned columns, under a heading; nothing without rows."""
    cells = [[escaped(str(cell)) for cell in row] for row in rows]
    if not cells:
        return []
    cells.insert(0, list(head))
    widths = [max(len(row[place]) for row in cells) for place in range(len(head))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]
