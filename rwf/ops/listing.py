"""Listing and counting workflows, by when they were inserted.

The index of each partition has a group for open workflows and one for each terminal state; it
orders them by millisecond. So does the tag index for those that have a tag; whichever of the two
has fewer that can be meant is read (``list.lua``), and what it lists is looked at. Within a
millisecond the workflows' own records order them (``header.lua``). So a millisecond is always read
as a whole, and a cursor says where in it a page has ended: ``inserted|order|id``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from rwf.errors import RecordUnreadable
from rwf.model.limits import ITEMS_PER_CALL, REPLY_ITEMS
from rwf.model.states import OperatorStatus
from rwf.model.views import PartialList, WorkflowCount, WorkflowPage, WorkflowView
from rwf.ops.base import (
    OpContext,
    Slots,
    all_partitions,
    ask_partitions,
    catch_each,
    invalid,
    reach_each,
)
from rwf.ops.filters import Filter
from rwf.protocol.functions.reads import Show
from rwf.protocol.headers import Header
from rwf.protocol.keys import partition_of
from rwf.protocol.requests import Op, Read, ask

_READ: Final = "read"
MAX_PAGE: Final = 500
# A filter that matches little ends a page early, with a cursor to go on from.
_SCANNED_PER_PAGE: Final = 2_000
_LOOKED_AT_ONCE: Final = 200
_SCANNED_PER_COUNT: Final = 100_000
_CURSOR: Final = re.compile(r"([0-9a-f]{11})\|([0-9]{7})\|([^|]*)")
_ORDERS: Final = ("newest", "oldest")

Entry = tuple[str, str]
"""An entry of an index: the millisecond of the insert in hexadecimal digits, and the id."""


class Place(NamedTuple):
    """The position of a workflow in the listing; a greater one was inserted later."""

    inserted: str
    """The millisecond of the insert, in hexadecimal digits."""
    order: str
    """The order within the millisecond."""
    workflow_id: str

    @classmethod
    def of_cursor(cls, cursor: str) -> Place:
        """Where a page has ended; raises CommandRejected, ``invalid_argument``."""
        match = _CURSOR.fullmatch(cursor) if isinstance(cursor, str) else None
        if not match or (match[3] and partition_of(match[3]) is None):
            raise invalid(_READ, "not a cursor of a page of workflows")
        return cls(match[1], match[2], match[3])

    def cursor(self) -> str:
        """Its text, which ``of_cursor`` takes."""
        return "|".join(self)


class Listed(NamedTuple):
    """A workflow of the listing."""

    place: Place
    view: WorkflowView
    status: OperatorStatus


def list_workflows(
    ctx: OpContext, given: Mapping[str, Any], order: str, limit: int, cursor: str | None
) -> Op[WorkflowPage]:
    """A page of the workflows that a filter holds of."""
    wanted = Filter.checked(given, _READ)
    if order not in _ORDERS:
        raise invalid(_READ, f"order must be {' or '.join(_ORDERS)}")
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MAX_PAGE:
        raise invalid(_READ, f"limit must be an integer of 1 to {MAX_PAGE}")
    after = None if cursor is None else Place.of_cursor(cursor)
    walk = Walk(ctx, wanted, after, oldest_first=order == "oldest")
    found = yield from walk.next(int(limit), _SCANNED_PER_PAGE)
    return WorkflowPage(
        workflows=tuple(listed.view for listed in found),
        operator_statuses=tuple(listed.status for listed in found),
        cursor=None if walk.ended or walk.after is None else walk.after.cursor(),
        unreachable=found.unreachable,
    )


def count(ctx: OpContext, given: Mapping[str, Any]) -> Op[WorkflowCount]:
    """How many workflows a filter holds of, as far as so many were looked at."""
    wanted = Filter.checked(given, _READ)
    if wanted.is_index:
        partitions = yield from all_partitions(ctx)
        asked = dict.fromkeys(partitions, wanted.count())
        replies, unreachable = yield from ask_partitions(ctx, asked)
        return WorkflowCount(count=sum(replies.values()), exact=True, unreachable=unreachable)
    walk, number, missing = Walk(ctx, wanted, None), 0, set[int]()
    while not walk.ended and walk.scanned < _SCANNED_PER_COUNT:
        found = yield from walk.next(MAX_PAGE, MAX_PAGE)
        number += len(found)
        missing.update(found.unreachable)
    return WorkflowCount(count=number, exact=walk.ended, unreachable=tuple(sorted(missing)))


class Walk:
    """A walk through the listing, a page at a time. ``after`` is how far it has come."""

    def __init__(
        self, ctx: OpContext, wanted: Filter, after: Place | None, *, oldest_first: bool = False
    ) -> None:
        self._ctx = ctx
        self._wanted = wanted
        self._oldest_first = oldest_first
        self.after = after
        self.ended = not wanted.groups
        self.scanned = 0

    def next(self, limit: int, scanned: int) -> Op[PartialList[Listed]]:
        """The next workflows, ``limit`` at most; fewer, once so many places were ``scanned`` (and
        those of the last one's millisecond), or none are left."""
        found: PartialList[Listed] = PartialList()
        yield from all_partitions(self._ctx)
        # The cursor's own millisecond is read again: it says how far in it the page before came.
        again = None if self.after is None else self.after.inserted
        behind = None if again is None else self._behind(again, again=True)
        known: set[Entry] = set()
        enough = self.scanned + scanned
        wanted = max(limit, _LOOKED_AT_ONCE) if self._wanted.looks else limit
        while not self.ended and self.scanned < enough:
            entries = yield from self._next_milliseconds(behind, wanted)
            _leave_out(found, entries)
            fresh = [entry for entry in entries if entry not in known]
            if not entries:
                self.ended = True
                break
            if not fresh:
                behind, known = self._behind(entries[-1][0], again=False), set()
                continue
            # Without those that are read again, so that each page gets further than the last.
            self.scanned += sum(inserted != again for inserted, _ in fresh)
            views = yield from self._listed(fresh)
            _leave_out(found, views)
            for listed in views:
                if self._is_passed(listed.place):
                    continue
                found.append(listed)
                if len(found) == limit:
                    self.after = listed.place
                    return found
            behind = self._leave(fresh, found)
            # More may come into the last millisecond that was read, while it is the present one.
            known = {entry for entry in entries if entry[0] == fresh[-1][0]}
            wanted = min(2 * wanted, MAX_PAGE)
        return found

    def _is_passed(self, place: Place) -> bool:
        if self.after is None:
            return False
        return place <= self.after if self._oldest_first else place >= self.after

    def _behind(self, inserted: str, *, again: bool) -> str:
        """Where reading goes on behind a millisecond, or with it again."""
        return f"{inserted}|~" if again is not self._oldest_first else f"{inserted}|"

    def _leave(self, entries: Sequence[Entry], found: Sequence[Listed]) -> str:
        """Notes that all these were looked at; returns where reading goes on."""
        last = entries[-1][0]
        begin = Place(last, "0" * 7, "")
        if not self._oldest_first:
            self.after = begin
            return self._behind(last, again=False)
        # Of the last millisecond, what was found is past, and so is what an earlier page has shown.
        self.after = max(begin, self.after or begin, found[-1].place if found else begin)
        return self._behind(last, again=True)

    def _next_milliseconds(self, behind: str | None, wanted: int) -> Op[PartialList[Entry]]:
        """The next entries of all partitions, in order: whole milliseconds, as many as have
        ``wanted`` entries together, if so many were read.

        All groups of a partition are read at once, from the same place to the same place, so that
        none is missed or read twice that goes from one to another.
        """
        ctx, oldest_first = self._ctx, self._oldest_first
        partitions, groups = ctx.keys.partitions, len(self._wanted.groups)
        count = min(wanted, REPLY_ITEMS // groups, 4 * wanted // partitions + 16)
        page = self._wanted.places(behind, count, oldest_first=oldest_first)
        entries: list[Entry] = []
        reached: list[Entry] = []
        replies, unreachable = yield from ask_partitions(
            ctx, dict.fromkeys(range(partitions), page)
        )
        for partition, lists in replies.items():
            some, end = self._read(lists, count)
            while end is not None and end[1]:  # more share this millisecond than one call reads
                on = self._wanted.places("|".join(end), count, oldest_first=oldest_first)
                more, end = self._read((yield from ask(ctx.keys.partition(partition), on)), count)
                some += more
            entries += some
            if end is not None:
                reached.append(end)
        entries.sort(reverse=not oldest_first)
        if reached:
            nearest = min(reached)[0] if oldest_first else max(reached)[0]
            entries = [one for one in entries if not self._is_beyond(one[0], nearest)]
        end_ = min(wanted, len(entries))
        while 0 < end_ < len(entries) and entries[end_][0] == entries[end_ - 1][0]:
            end_ += 1
        return PartialList(entries[:end_], unreachable)

    def _is_beyond(self, inserted: str, end: str) -> bool:
        return inserted > end if self._oldest_first else inserted < end

    def _read(self, lists: Sequence[Sequence[str]], count: int) -> tuple[list[Entry], Entry | None]:
        """The entries of all ranges as far as one call has read every one of them, and how far that
        is, None for to their end: the id is empty where it is to the end of a millisecond."""
        reached: Entry | None = None
        entries: list[Entry] = []
        nearer = min if self._oldest_first else max
        for places in lists:
            some = [_entry(place) for place in places]
            entries += some
            if len(some) >= count:
                inserted, workflow_id = some[-1]
                if len(some) < 2 * count:
                    # To the end of the millisecond, where entries of that compare as read.
                    workflow_id = "~" if self._oldest_first else ""
                end = (inserted, workflow_id)
                reached = end if reached is None else nearer(reached, end)
        if reached is None:
            return entries, None
        last = reached
        kept = [
            entry for entry in entries if (entry <= last if self._oldest_first else entry >= last)
        ]
        return kept, (last[0], last[1].rstrip("~"))

    def _listed(self, entries: Sequence[Entry]) -> Op[PartialList[Listed]]:
        """Those of these workflows that are meant, in the order of the listing, as far as they
        still exist and can be read."""
        by_partition: dict[int, list[Entry]] = {}
        for entry in entries:
            by_partition.setdefault(int(entry[1].partition("-")[0]), []).append(entry)
        shown = yield from reach_each(
            self._ctx, {number: self._shown_of(own) for number, own in by_partition.items()}
        )
        found = (listed for own in shown for listed in own)
        ordered = sorted(found, key=lambda one: one.place, reverse=not self._oldest_first)
        return PartialList(ordered, shown.unreachable)

    def _shown_of(self, entries: Sequence[Entry]) -> Op[list[Listed]]:
        """Those of one partition."""
        found: list[Listed] = []
        meant = yield from self._may_be_meant(entries)
        for start in range(0, len(meant), ITEMS_PER_CALL):
            found += yield from catch_each(
                self._shown, meant[start : start + ITEMS_PER_CALL], lambda entry: entry[1]
            )
        return found

    def _may_be_meant(self, entries: Sequence[Entry]) -> Op[Sequence[Entry]]:
        """Leaves out what the filter shows not to be meant, by plain commands: these cost the
        server a tenth of what the whole header does."""
        looks = self._wanted.looks
        if not looks:
            return entries
        keys = [self._ctx.keys.record(workflow_id) for _, workflow_id in entries]
        replies: list[Any] = yield Read(keys[0], [("HMGET", key, *looks) for key in keys])
        pairs = zip(entries, replies, strict=True)
        return [entry for entry, fields in pairs if self._may_be(fields)]

    def _may_be(self, fields: Any) -> bool:
        try:
            return isinstance(fields, Exception) or self._wanted.may_hold(*fields)
        except (RecordUnreadable, ValueError):
            return True  # which says so where it is shown

    def _shown(self, entries: Sequence[Entry]) -> Op[list[Listed]]:
        shown: list[Listed] = []
        while entries:
            partition = int(entries[0][1].partition("-")[0])
            slots = Slots(self._ctx, partition, [id_ for _, id_ in entries])
            headers = yield from ask(slots.keys, Show())
            for (inserted, workflow_id), found in zip(entries, headers, strict=False):
                if found is not None:
                    header = Header.parse(found.static, found.counts)
                    view = header.view(workflow_id, found.context)
                    status = self._wanted.holds(view, header)
                    if status is not None:
                        place = Place(inserted, found.order, workflow_id)
                        shown.append(Listed(place, view, status))
            entries = entries[len(headers) :]
        return shown


def _leave_out(found: PartialList[Any], some: PartialList[Any]) -> None:
    """Adds the partitions that are missing in a part of a list to those missing in the list."""
    found.unreachable = tuple(sorted({*found.unreachable, *some.unreachable}))


def _entry(place: str) -> Entry:
    inserted, _, workflow_id = place.partition("|")
    return inserted, workflow_id
