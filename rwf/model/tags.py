"""Tags: texts that a workflow is found by, and the form in which they are stored.

Stored they are one text, ``KEY=VALUE,KEY=VALUE`` with both percent-quoted, in the order of the
keys: the field ``:tags`` of the workflow's hash. An entry of the tag index begins with one of these
pairs (``rwf.protocol.keys``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import quote, unquote

from rwf.errors import WorkflowInvalid
from rwf.model.names import shown

MAX_TAGS: Final = 16
MAX_TAG_LENGTH: Final = 128

Tags = tuple[tuple[str, str], ...]
"""Keys with their values, in the order of the keys."""


def checked_tags(tags: object) -> Tags:
    """Tags in the order of their keys. Raises :class:`WorkflowInvalid`, ``invalid_tags``, for what
    is no mapping of up to 16 strings of 1 to 128 characters to such strings (contract §17)."""
    if not isinstance(tags, Mapping):
        raise _invalid(f"tags must be a mapping, not {shown(tags)}")
    if len(tags) > MAX_TAGS:
        raise _invalid(f"{len(tags)} tags, the limit is {MAX_TAGS}")
    return tuple(sorted((_checked(key, "key"), _checked(tags[key], "value")) for key in tags))


def _checked(text: object, what: str) -> str:
    if not isinstance(text, str) or not 1 <= len(text) <= MAX_TAG_LENGTH:
        raise _invalid(
            f"a tag's {what} must be a string of 1 to {MAX_TAG_LENGTH} characters: {shown(text)}"
        )
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _invalid(f"a tag's {what} must not hold lone surrogates") from None
    return str.__str__(text)


def _invalid(message: str) -> WorkflowInvalid:
    return WorkflowInvalid("invalid_tags", message)


def stored_tag(key: str, value: str) -> str:
    """One tag as it is stored."""
    return f"{quote(key, safe='')}={quote(value, safe='')}"


def stored_tags(tags: Iterable[tuple[str, str]]) -> str:
    """Tags as they are stored."""
    return ",".join(stored_tag(key, value) for key, value in tags)


def tags_of(stored: str) -> dict[str, str]:
    """Stored tags; raises ValueError for a text that is none."""
    pairs = (text.split("=") for text in stored.split(","))
    return {unquote(key, errors="strict"): unquote(value, errors="strict") for key, value in pairs}
