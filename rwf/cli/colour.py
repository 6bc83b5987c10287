"""Colour on terminals: statuses, headings and commands stand out. ``NO_COLOR`` turns it off."""

from __future__ import annotations

import os
import re
import sys
from typing import Final

from rwf.model.states import OperatorStatus

_CODES: Final = {
    OperatorStatus.NEEDS_REVIEW: "1;31",
    OperatorStatus.BLOCKED: "33",
    OperatorStatus.WAITING: "36",
    OperatorStatus.RUNNABLE: "34",
    OperatorStatus.RESOLVED: "32",
}
_WORDS: Final = "|".join(_CODES)
# A status leads a line, or what is told of a step in brackets.
_STATUS: Final = re.compile(rf"(?:(?<=^)|(?<=\[))({_WORDS})(?=  |, |$)")
_HEADING: Final = re.compile(r"[A-Z][A-Z /]*(?:  +[A-Z][A-Z /]*)+")
_COMMAND: Final = re.compile(r"( +)(rwf .*)")
_BOLD: Final = "1"


def painted(line: str) -> str:
    """A line without control characters, coloured for a terminal."""
    if _HEADING.fullmatch(line):
        return _in(_BOLD, line)
    if found := _COMMAND.fullmatch(line):
        return found[1] + _in(_BOLD, found[2])
    return _STATUS.sub(lambda found: _in(_CODES[OperatorStatus(found[1])], found[1]), line)


def _in(code: str, text: str) -> str:
    return f"\x1b[{code}m{text}\x1b[0m"


def wanted() -> bool:
    """Whether stdout is a terminal that shows colours, and neither ``NO_COLOR`` nor
    ``TERM=dumb`` says otherwise."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return sys.stdout.isatty() and not plain
