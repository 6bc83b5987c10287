"""Listing and counting workflows, by when they were inserted.

The index of each partition has a group for open workflows and one for each terminal state; it
orders them by millisecond. So does the tag index for those that have a tag; whichever of the two
has fewer that can be meant is read (:mod:`rwf.ops.places`), and what it lists is looked at
(``find.lua``). Within a millisecond the workflows' own records order them (``header.lua``). So a
millisecond is always read as a whole, and a cursor says where in it a page has ended:
``inserted|order|id``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from rwf.errors import RecordUnreadable
from rwf.model.limits import ITEMS_PER_CALL
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
    warn_of,
)
from rwf.ops.filters import Filter
from rwf.ops.places import Places, id_of, inserted_of
from rwf.protocol.codecs import value_of
from rwf.protocol.functions.reads import FoundWorkflow, Show
from rwf.protocol.headers import Header
from rwf.protocol.keys import home_of, partition_of
from rwf.protocol.requests import Op, ask

_READ: Final = "read"
MAX_PAGE: Final = 500
# A filter that matches little ends a page early, with a cursor to go on from.
_SCANNED_PER_PAGE: Final = 2_000
_LOOKED_AT_ONCE: Final = 500
_SCANNED_PER_COUNT: Final = 100_000
_CURSOR: Final = re.compile(r"([0-9a-f]{11})\|([0-9]{7})\|([^|]*)")
_ORDERS: Final = ("newest", "oldest")


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


class _Found(NamedTuple):
    """A workflow that may be meant, as ``find`` tells of it."""

    place: Place
    static: bytes
    counts: bytes

    @classmethod
    def at(cls, place: str, found: FoundWorkflow) -> _Found:
        """Found at a place of an index."""
        in_order = Place(inserted_of(place), found.order, id_of(place))
        return cls(in_order, found.static, found.counts)


class Listed(NamedTuple):
    """A workflow of the listing; ``has_context``: whether one is stored that ``view`` lacks."""

    place: Place
    view: WorkflowView
    status: OperatorStatus
    has_context: bool


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
    found = yield from _with_contexts(ctx, (yield from walk.next(int(limit), _SCANNED_PER_PAGE)))
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
        those of the last one's millisecond), or none are left. Their contexts are not read."""
        found: PartialList[Listed] = PartialList()
        yield from all_partitions(self._ctx)
        # The cursor's own millisecond is read again: it says how far in it the page before came.
        again = None if self.after is None else self.after.inserted
        start = None if again is None else f"{again}|" if self._oldest_first else f"{again}|~"
        places = Places(self._ctx, self._wanted, start, oldest_first=self._oldest_first)
        begun, enough = self.scanned, self.scanned + scanned
        first = limit if self._wanted.is_index else _LOOKED_AT_ONCE
        while not self.ended and self.scanned < enough:
            # As many as will do by what was found among those before: a round trip has its price.
            likely = (limit - len(found)) * (self.scanned - begun) // max(len(found), 1)
            some = yield from places.next(max(first, min(likely, enough - self.scanned)))
            # Without those that are read again, so that each page gets further than the last.
            self.scanned += sum(inserted_of(place) != again for place in some)
            looked_at = yield from self._looked_at(places.fit(some))
            _leave_out(found, {*places.unreachable, *looked_at.unreachable})
            for one in looked_at:
                listed = None if self._is_passed(one.place) else self._judged(one)
                if listed is not None:
                    found.append(listed)
                if len(found) == limit:
                    self.after = one.place
                    return found
            self.ended = places.ended
            if some:
                self._leave(inserted_of(some[-1]), found)
        return found

    def _is_passed(self, place: Place) -> bool:
        if self.after is None:
            return False
        return place <= self.after if self._oldest_first else place >= self.after

    def _leave(self, inserted: str, found: Sequence[Listed]) -> None:
        """Notes that all up to this millisecond were looked at."""
        begin = Place(inserted, "0" * 7, "")
        if self._oldest_first:
            # More may come into it. What was found of it is past, and what an earlier page showed.
            begin = max(begin, self.after or begin, found[-1].place if found else begin)
        self.after = begin

    def _looked_at(self, places: Sequence[str]) -> Op[PartialList[_Found]]:
        """Those of these workflows that may be meant, in the order of the listing, as far as they
        still exist."""
        by_partition: dict[int, list[str]] = {}
        for place in places:
            by_partition.setdefault(home_of(id_of(place)), []).append(place)
        found = yield from reach_each(
            self._ctx, {number: self._found_of(own) for number, own in by_partition.items()}
        )
        ordered = sorted(
            (one for own in found for one in own),
            key=lambda one: one.place,
            reverse=not self._oldest_first,
        )
        return PartialList(ordered, found.unreachable)

    def _found_of(self, places: Sequence[str]) -> Op[list[_Found]]:
        """The workflows that one partition has found."""
        found: list[_Found] = []
        for start in range(0, len(places), ITEMS_PER_CALL):
            part = places[start : start + ITEMS_PER_CALL]
            found += yield from catch_each(self._find, part, id_of)
        return found

    def _find(self, places: Sequence[str]) -> Op[list[_Found]]:
        keys = [self._ctx.keys.record(id_of(place)) for place in places]
        found = yield from ask(keys, self._wanted.find())
        return [_Found.at(places[one.slot - 1], one) for one in found]

    def _judged(self, one: _Found) -> Listed | None:
        """The workflow, unless its state or its status is another than is meant."""
        workflow_id = one.place.workflow_id
        try:
            header = Header.parse(one.static, one.counts)
            view = header.view(workflow_id, None)
            status = self._wanted.holds(view, header)
        except RecordUnreadable as error:
            warn_of(workflow_id, error)
            return None
        return None if status is None else Listed(one.place, view, status, header.has_context)


def _with_contexts(ctx: OpContext, listed: PartialList[Listed]) -> Op[PartialList[Listed]]:
    """Adds the contexts of those workflows that have one; leaves out one that is gone since, or
    whose context cannot be read."""
    by_partition: dict[int, list[str]] = {}
    for one in listed:
        if one.has_context:
            workflow_id = one.place.workflow_id
            by_partition.setdefault(home_of(workflow_id), []).append(workflow_id)
    if not by_partition:
        return listed
    read = yield from reach_each(
        ctx, {number: _contexts_of(ctx, number, ids) for number, ids in by_partition.items()}
    )
    contexts = {workflow_id: context for own in read for workflow_id, context in own}
    found: PartialList[Listed] = PartialList((), listed.unreachable)
    _leave_out(found, read.unreachable)
    for one in listed:
        if one.place.workflow_id in contexts:
            update = {"context": contexts[one.place.workflow_id]}
            found.append(one._replace(view=one.view.model_copy(update=update)))
        elif not one.has_context:
            found.append(one)
    return found


def _contexts_of(ctx: OpContext, partition: int, ids: Sequence[str]) -> Op[list[tuple[str, Any]]]:
    """The contexts of workflows of one partition."""

    def contexts(asked: Sequence[str]) -> Op[list[tuple[str, Any]]]:
        found = []
        while asked:
            shown = yield from ask(Slots(ctx, partition, asked).keys, Show())
            pairs = zip(asked, shown, strict=False)
            found += [(id_, value_of(one.context)) for id_, one in pairs if one is not None]
            asked = asked[len(shown) :]
        return found

    found: list[tuple[str, Any]] = []
    for start in range(0, len(ids), ITEMS_PER_CALL):
        found += yield from catch_each(contexts, ids[start : start + ITEMS_PER_CALL], str)
    return found


def _leave_out(found: PartialList[Any], unreachable: Iterable[int]) -> None:
    """Adds partitions to those that are missing in a list."""
    found.unreachable = tuple(sorted({*found.unreachable, *unreachable}))
