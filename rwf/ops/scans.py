"""Going through a sorted set, a page at a time, whatever the scores of its members are.

Who goes on to the end has seen all members that were there all the time, in no order. A page has
about 100 of them, or all of a set that the server keeps packed (128 by default).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from rwf.protocol.requests import Op, Read

_MEMBERS_PER_PAGE: Final = 100


class ScannedPage(NamedTuple):
    """``cursor``: where to go on, 0 at the end."""

    cursor: int
    members: list[bytes]


def scan_of(*sets: tuple[str, int]) -> Read:
    """The read of a page of each of some sorted sets of one partition, given the cursor of each, 0
    at first. :func:`pages_of` takes its replies apart."""
    commands = [("ZSCAN", key, cursor, "COUNT", _MEMBERS_PER_PAGE) for key, cursor in sets]
    return Read(sets[0][0], commands)


def pages_of(replies: Sequence[Any]) -> list[ScannedPage | None]:
    """The pages, None for a key of another type."""
    return [None if isinstance(reply, Exception) else _page(*reply) for reply in replies]


def scan(*sets: tuple[str, int]) -> Op[list[ScannedPage | None]]:
    """A page of each of some sorted sets of one partition; None for a key of another type."""
    return pages_of((yield scan_of(*sets)))


def _page(cursor: int, scored: Sequence[tuple[bytes, float]]) -> ScannedPage:
    return ScannedPage(cursor, [member for member, _ in scored])
