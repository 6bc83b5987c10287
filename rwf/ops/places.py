"""Reading an index of all partitions as one: places in the order of the listing.

Each partition is read a little ahead, and only those are read on that could still have one of the
next places. So a page takes one round trip, or few where some partitions have much more of it than
others.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import compress
from typing import Final

from rwf.errors import StoreUnavailable
from rwf.model.limits import REPLY_ITEMS
from rwf.ops.base import OpContext, ask_partitions
from rwf.ops.filters import Filter
from rwf.protocol.functions.reads import PlacesPage
from rwf.protocol.requests import Op

# Read of a partition beyond twice its share, as no page has as much of each.
_AHEAD: Final = 4


def inserted_of(place: str) -> str:
    """The millisecond of the insert, in hexadecimal digits, of a place ``inserted|id``."""
    return place.partition("|")[0]


def id_of(place: str) -> str:
    """The workflow's id."""
    return place.partition("|")[2]


class Places:
    """The places that a filter looks at, from ``start`` on. ``unreachable`` are the partitions that
    are missing."""

    def __init__(
        self, ctx: OpContext, wanted: Filter, start: str | None, *, oldest_first: bool
    ) -> None:
        self._ctx = ctx
        self._wanted = wanted
        self._oldest_first = oldest_first
        self._found: list[str] = []
        self._unfit: set[str] = set()
        # Which index of each partition is read.
        self._indexes: dict[int, int] = {}
        # How far each partition is read that has more.
        self._read: dict[int, str | None] = dict.fromkeys(range(ctx.keys.partitions), start)
        self.unreachable: set[int] = set()

    @property
    def ended(self) -> bool:
        """Whether there are no more places."""
        return not self._found and not self._read

    def fit(self, places: Iterable[str]) -> list[str]:
        """Those of them whose workflows may be meant, by all indexes."""
        return [place for place in places if place not in self._unfit]

    def next(self, number: int) -> Op[list[str]]:
        """The next places: whole milliseconds, of so many places or a few more; fewer when no more
        are left."""
        missing = max(number - len(self._found), 1)
        share = min(missing, 2 * missing // self._ctx.keys.partitions + _AHEAD)
        while partitions := self._not_read_to(number):
            yield from self._read_on(partitions, share)
            share *= 2
        end = min(number, len(self._found))
        while 0 < end < len(self._found) and self._in_one(self._found[end - 1], self._found[end]):
            end += 1
        found, self._found = self._found[:end], self._found[end:]
        return found

    @staticmethod
    def _in_one(place: str, other: str) -> bool:
        return inserted_of(place) == inserted_of(other)

    def _not_read_to(self, number: int) -> list[int]:
        """The partitions that may have more of so many places, or of the last one's millisecond."""
        if len(self._found) < number:
            return list(self._read)
        end = self._behind(self._found[number - 1])
        return [one for one, place in self._read.items() if not self._is_within(end, place)]

    def _read_on(self, partitions: Sequence[int], share: int) -> Op[None]:
        """Reads about so many more places of each of these partitions.

        All groups of a partition are read at once, from the same place to the same place, so that
        none is missed or read twice that goes from one to another.
        """
        count = min(share, REPLY_ITEMS // len(self._wanted.groups))
        asked = {
            one: self._wanted.places(
                self._read[one], count, self._indexes.get(one), oldest_first=self._oldest_first
            )
            for one in partitions
        }
        try:
            replies, unreachable = yield from ask_partitions(self._ctx, asked)
        except StoreUnavailable:
            if len(asked) == self._ctx.keys.partitions:
                raise
            replies, unreachable = {}, tuple(asked)
        self.unreachable.update(unreachable)
        ends = dict.fromkeys(unreachable)
        for partition, listed in replies.items():
            self._indexes[partition] = listed.chosen
            ends[partition] = self._add(listed.pages, count)
        for partition, end in ends.items():
            if end is None:
                del self._read[partition]
            else:
                self._read[partition] = end
        self._found.sort(reverse=not self._oldest_first)

    def _add(self, pages: Sequence[PlacesPage], count: int) -> str | None:
        """Adds the places of all ranges as far as one call has read every one of them; returns how
        far that is, None for to their end."""
        ends = [self._end(page.places, count) for page in pages if len(page.places) >= count]
        end = (min if self._oldest_first else max)(ends, default=None)
        for places, fits in pages:
            kept = [one for one in places if end is None or self._is_within(one, end)]
            self._found += kept
            # Of those alone: the others are read again.
            self._unfit.update(compress(kept, map("0".__eq__, fits)))
        return end

    def _end(self, places: Sequence[str], count: int) -> str:
        """How far one range was read: to the end of the last one's millisecond, unless that has
        more than one call reads."""
        return self._behind(places[-1]) if len(places) < 2 * count else places[-1]

    def _behind(self, place: str) -> str:
        """The end of its millisecond, in the order of the listing."""
        return f"{inserted_of(place)}|~" if self._oldest_first else f"{inserted_of(place)}|"

    def _is_within(self, place: str, end: str | None) -> bool:
        """Whether a place is at an end or before it, in the order of the listing; never with None
        as the end."""
        if end is None:
            return False
        return place <= end if self._oldest_first else place >= end
