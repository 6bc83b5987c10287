"""Formats stored values for operators: times, payloads, states, and legal next steps."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from markupsafe import Markup

from rwf.model.names import escaped

_SHOWN: Final = 20_000
"""Characters of a payload that are shown."""
_TEXT_SHOWN: Final = 2_000
"""Characters of a text that is part of a sentence or a table."""

ADVICE: Final[Mapping[str, str]] = {
    "run_worker": "Run a worker that serves its queue.",
    "run_worker_with_handler": "Deploy a worker that has a handler for it.",
    "raise_max_input": "Raise max_input of its worker.",
    "wait": "Wait: it goes on by itself.",
}
"""Next steps that are taken elsewhere."""


class Block(str):
    """A text of several lines, in which all but the line ends is escaped."""

    __slots__ = ()


def printable(value: Any) -> Any:
    """How the templates print a value: nothing for None, and text without anything that steers a
    terminal or turns the direction of reading. HTML is escaped after that."""
    if value is None:
        return ""
    if isinstance(value, Markup | Block) or not isinstance(value, str):
        return value
    if len(value) > _TEXT_SHOWN:
        value = f"{value[:_TEXT_SHOWN]}… ({len(value)} characters)"
    return escaped(value)


def with_commands(text: str | None) -> Markup:
    """A sentence in which what stands between backticks is a command to be pasted."""
    parts = [Markup.escape(printable(part)) for part in (text or "").split("`")]
    parts[1::2] = [Markup('<code class="command">{}</code>').format(one) for one in parts[1::2]]
    return Markup("").join(parts)


def payload(value: Any) -> Block:
    """A JSON value over several lines, cut when it is long."""
    try:
        text = json.dumps(value, indent=2, ensure_ascii=False)
    except (RecursionError, ValueError):
        text = "nested too deeply, or a number too long, to be shown"
    cut = text[:_SHOWN]
    shown = Block("\n".join(map(escaped, cut.split("\n"))))
    return shown if len(cut) == len(text) else Block(f"{shown}\n… ({len(text)} characters)")


def moment(time: datetime | None) -> str:
    """A time in UTC, to the second."""
    return "" if time is None else f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def ago(time: datetime | None) -> str:
    """How long a time is past, or ahead: ``3 min ago``, ``in 20 s``."""
    if time is None:
        return "never"
    seconds = (datetime.now(UTC) - time).total_seconds()
    text = span(abs(seconds))
    if abs(seconds) < 1:
        return "now"
    return f"{text} ago" if seconds > 0 else f"in {text}"


def span(seconds: float) -> str:
    """A length of time in its largest unit."""
    for unit, size, least in (("d", 86_400, 2), ("h", 3_600, 2), ("min", 60, 2)):
        if seconds >= least * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def slug(text: str) -> str:
    """A text as the name of a style: ``needs-review``."""
    return text.lower().replace(" ", "-").replace("_", "-")


def plain(code: str) -> str:
    """A code in words: ``step failed``."""
    return code.replace("_", " ")


def plural(count: int, what: str) -> str:
    """``1 step``, ``2 steps``."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"
