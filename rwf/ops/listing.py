"""Listing workflows: newest first, by when they were inserted.

The index of each partition has a group for open workflows and one for each terminal state; it
orders them by millisecond. Within a millisecond the workflows' own records do (``header.lua``). So
a millisecond is always read as a whole, and a cursor says where in it a page has ended:
``inserted|order|id``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, TypeVar

from rwf.model.limits import ITEMS_PER_CALL, REPLY_ITEMS
from rwf.model.operator_status import workflow_status
from rwf.model.states import (
    TERMINAL_WORKFLOWS,
    WORKFLOW_CODE,
    OperatorStatus,
    WorkflowState,
)
from rwf.model.views import PartialList, WorkflowPage, WorkflowView
from rwf.ops.base import (
    OpContext,
    Slots,
    all_partitions,
    ask_partitions,
    catch_each,
    checked_text,
    invalid,
    reach_each,
)
from rwf.protocol.functions.reads import ListPlaces, Show
from rwf.protocol.headers import Header
from rwf.protocol.keys import partition_of
from rwf.protocol.requests import Op, ask

_READ: Final = "read"
_MAX_PAGE: Final = 500
# A filter that matches little ends a page early, with a cursor to go on from.
_SCANNED_PER_PAGE: Final = 10_000
_CURSOR: Final = re.compile(r"([0-9a-f]{11})\|([0-9]{7})\|([^|]*)")

Entry = tuple[str, str]
"""An entry of the index: the millisecond of the insert in hexadecimal digits, and the id."""

Member = TypeVar("Member", WorkflowState, OperatorStatus)


class _Place(NamedTuple):
    """The position of a workflow in the listing; a greater one comes earlier."""

    inserted: str
    """The millisecond of the insert, in hexadecimal digits."""
    order: str
    """The order within the millisecond."""
    workflow_id: str


class _Listed(NamedTuple):
    """A workflow of the listing."""

    place: _Place
    view: WorkflowView
    status: OperatorStatus


def list_workflows(
    ctx: OpContext,
    state: WorkflowState | str | None,
    operator_status: OperatorStatus | str | None,
    name: str | None,
    limit: int,
    cursor: str | None,
) -> Op[WorkflowPage]:
    """Workflows, newest first."""
    wanted_state = None if state is None else _member("state", state, WorkflowState)
    wanted_status = (
        None
        if operator_status is None
        else _member("operator_status", operator_status, OperatorStatus)
    )
    name = checked_text(name, "name", _READ)
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= _MAX_PAGE:
        raise invalid(_READ, f"limit must be an integer of 1 to {_MAX_PAGE}")
    limit = int(limit)  # also of one of a subclass, which cannot be sent
    after = None if cursor is None else _checked_cursor(cursor)
    yield from all_partitions(ctx)
    groups = _groups(wanted_state)
    # The cursor's own millisecond is read again: it says how far in it the page before has come.
    behind = None if after is None else f"{after.inserted}|~"
    found: PartialList[_Listed] = PartialList()
    scanned = 0
    while scanned < _SCANNED_PER_PAGE:
        entries = yield from _next_milliseconds(ctx, groups, behind, limit)
        _leave_out(found, entries)
        if not entries:
            return _page(found, None)
        scanned += len(entries)
        views = yield from _listed(ctx, entries)
        _leave_out(found, views)
        for listed in views:
            if after is not None and listed.place >= after:
                continue
            if (
                wanted_state in (None, listed.view.state)
                and wanted_status in (None, listed.status)
                and name in (None, listed.view.name)
            ):
                found.append(listed)
                if len(found) == limit:
                    return _page(found, listed.place)
        oldest = entries[-1][0]
        behind, after = f"{oldest}|", _Place(oldest, "0" * 7, "")
    return _page(found, after)


def _leave_out(found: PartialList[Any], some: PartialList[Any]) -> None:
    """Adds the partitions that are missing in a part of a list to those missing in the list."""
    found.unreachable = tuple(sorted({*found.unreachable, *some.unreachable}))


def _page(found: PartialList[_Listed], end: _Place | None) -> WorkflowPage:
    return WorkflowPage(
        workflows=tuple(listed.view for listed in found),
        operator_statuses=tuple(listed.status for listed in found),
        cursor=None if end is None else "|".join(end),
        unreachable=found.unreachable,
    )


def _member(name: str, value: Any, kind: type[Member]) -> Member:
    if not isinstance(value, str) or value not in set(kind):
        raise invalid(_READ, f"{name} must be one of {', '.join(kind)}")
    return kind(value)


def _checked_cursor(cursor: str) -> _Place:
    match = _CURSOR.fullmatch(cursor) if isinstance(cursor, str) else None
    if not match or (match[3] and partition_of(match[3]) is None):
        raise invalid(_READ, "not a cursor of a page of workflows")
    return _Place(match[1], match[2], match[3])


def _groups(state: WorkflowState | None) -> str:
    """The groups of the index that hold workflows of this state."""
    if state is None:
        return "o" + "".join(WORKFLOW_CODE.values())
    return WORKFLOW_CODE[state] if state in TERMINAL_WORKFLOWS else "o"


def _next_milliseconds(
    ctx: OpContext, groups: str, behind: str | None, wanted: int
) -> Op[PartialList[Entry]]:
    """The next entries of all partitions, newest first: whole milliseconds, as many as have
    ``wanted`` entries together, if so many were read.

    All groups of a partition are read at once, from the same place to the same place, so that none
    is missed or read twice that goes from one to another.
    """
    partitions = ctx.keys.partitions
    count = min(wanted, REPLY_ITEMS // len(groups), 4 * wanted // partitions + 16)
    page = ListPlaces(groups, behind, count)
    entries: list[Entry] = []
    complete: Entry = ("", "")
    asked = dict.fromkeys(range(partitions), page)
    replies, unreachable = yield from ask_partitions(ctx, asked)
    for partition, lists in replies.items():
        some, reached = _read_down(lists, count)
        while reached[1]:  # more share this millisecond than one call reads
            on = ListPlaces(groups, "|".join(reached), count)
            more, reached = _read_down((yield from ask(ctx.keys.partition(partition), on)), count)
            some += more
        entries += some
        complete = max(complete, reached)
    entries = sorted((entry for entry in entries if entry >= complete), reverse=True)
    end = min(wanted, len(entries))
    while 0 < end < len(entries) and entries[end][0] == entries[end - 1][0]:
        end += 1
    return PartialList(entries[:end], unreachable)


def _read_down(lists: Sequence[Sequence[str]], count: int) -> tuple[list[Entry], Entry]:
    """The entries of all groups as far down as one call has read every group, and how far that is:
    the id is empty where it is to the end of a millisecond."""
    reached: Entry = ("", "")
    entries: list[Entry] = []
    for places in lists:
        some = [_entry(place) for place in places]
        entries += some
        if len(some) >= count:
            inserted, workflow_id = some[-1]
            reached = max(reached, (inserted, workflow_id if len(some) == 2 * count else ""))
    return [entry for entry in entries if entry >= reached], reached


def _entry(place: str) -> Entry:
    inserted, _, workflow_id = place.partition("|")
    return inserted, workflow_id


def _listed(ctx: OpContext, entries: Sequence[Entry]) -> Op[PartialList[_Listed]]:
    """These workflows in the order of the listing, as far as they still exist and can be read."""
    by_partition: dict[int, list[Entry]] = {}
    for entry in entries:
        by_partition.setdefault(int(entry[1].partition("-")[0]), []).append(entry)
    shown = yield from reach_each(
        ctx, {number: _shown_of(ctx, own) for number, own in by_partition.items()}
    )
    found = (listed for own in shown for listed in own)
    ordered = sorted(found, key=lambda listed: listed.place, reverse=True)
    return PartialList(ordered, shown.unreachable)


def _shown_of(ctx: OpContext, entries: Sequence[Entry]) -> Op[list[_Listed]]:
    """Those of one partition."""
    found: list[_Listed] = []
    for start in range(0, len(entries), ITEMS_PER_CALL):
        found += yield from catch_each(
            lambda own: _shown(ctx, own),
            entries[start : start + ITEMS_PER_CALL],
            lambda entry: entry[1],
        )
    return found


def _shown(ctx: OpContext, entries: Sequence[Entry]) -> Op[list[_Listed]]:
    """These workflows of one partition, as far as they still exist."""
    shown: list[_Listed] = []
    while entries:
        slots = Slots(ctx, int(entries[0][1].partition("-")[0]), [id_ for _, id_ in entries])
        headers = yield from ask(slots.keys, Show())
        for (inserted, workflow_id), found in zip(entries, headers, strict=False):
            if found is not None:
                header = Header.parse(found.static, found.counts)
                view = header.view(workflow_id, found.context)
                status = workflow_status(view, review=header.needs_review)
                place = _Place(inserted, found.order, workflow_id)
                shown.append(_Listed(place, view, status))
        entries = entries[len(headers) :]
    return shown
