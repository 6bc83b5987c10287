"""The names that users give, and how values of theirs are shown."""

from __future__ import annotations

import re
from typing import Final

from rwf.errors import WorkflowInvalid

NAME_PATTERN: Final = "[A-Za-z0-9._-]{1,128}"
_NAME: Final = re.compile(NAME_PATTERN)
_SHOWN: Final = 80


def shown(value: object) -> str:
    """A short description of any value for an error message; never runs code of the value's own.

    Text is cut at 80 characters, and escaped; what is neither text nor a plain scalar is named by
    its type.
    """
    if type(value) is str:
        text = repr(value[: _SHOWN + 1])
        return text if len(text) <= _SHOWN + 2 else f"{text[:_SHOWN]}..."
    # Python refuses to print integers of thousands of digits.
    if type(value) is int and value.bit_length() > 128:
        return f"an int of {value.bit_length()} bits"
    if value is None or type(value) in (bool, int, float):
        return repr(value)
    return f"a value of type {type(value).__name__[:_SHOWN]}"


def escaped(text: str) -> str:
    """The text with what is not printable escaped, so that it can steer neither a terminal
    nor, by marks of direction, how a page reads."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def checked_name(value: object, what: str) -> str:
    """``value`` as a plain str when it is a legal name of a workflow, step or queue.

    ``what`` says in the message whose name it is. Raises :class:`WorkflowInvalid`:
    ``invalid_name``.
    """
    # A StrEnum's member is a fine name, but what is kept is its text.
    if isinstance(value, str) and _NAME.fullmatch(value):
        return str.__str__(value)
    text = shown(value)
    raise WorkflowInvalid("invalid_name", f"{what} must match {NAME_PATTERN}: {text}", name=text)
