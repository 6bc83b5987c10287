"""Correcting the gauges of a partition, which only transitions count.

They are counted anew from the workflows' headers, a page at a time. What others do meanwhile shows
in the gauges themselves, but for changes that undo each other between two looks: so a difference
counts only when a second count finds the same, and a gauge is set only while it is still what it
was. Where others are at work all the time, a gauge that is off stays so until they are not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rwf.model.limits import ITEMS_PER_CALL
from rwf.model.states import WORKFLOW_CODE, CallbackStatus
from rwf.model.views import GaugeDifference
from rwf.ops.base import OpContext, catch_errors
from rwf.protocol.functions.reads import ListPlaces
from rwf.protocol.functions.repairs import SetGauges, WrongGauge
from rwf.protocol.requests import Op, ask
from rwf.repair.orphans import count_gauges

_GROUPS: Final = ("o", *WORKFLOW_CODE.values())


def mend_gauges(ctx: OpContext, partition: int) -> Op[list[GaugeDifference]]:
    """Corrects wrong gauges; returns their values before and after."""
    found = yield from _differences(ctx, partition)
    if not found:
        return []
    again = yield from _differences(ctx, partition)
    return (yield from _set(ctx, partition, [one for one in found if one in again]))


def _set(
    ctx: OpContext, partition: int, wrong: Sequence[GaugeDifference]
) -> Op[list[GaugeDifference]]:
    if not wrong:
        return []
    gauges = [WrongGauge(one.gauge, one.stored, one.expected) for one in wrong]
    places = yield from ask(ctx.keys.partition(partition), SetGauges(gauges))
    return [wrong[place - 1] for place in places]


def _differences(ctx: OpContext, partition: int) -> Op[list[GaugeDifference]]:
    """Gauges that differ from what the listed workflows add up to; none when something has
    happened meanwhile, or when a workflow cannot be read.
    """
    before, sizes, sums = yield from count_gauges(ctx, partition, ())
    for group in _GROUPS:
        place: str | None = None
        while page := (yield from _listed(ctx, partition, group, place)):
            *_, place = page
            ids = [entry.rpartition("|")[2] for entry in page]
            found = yield from catch_errors(count_gauges(ctx, partition, ids))
            if isinstance(found, Exception) or found[0] != before:
                return []
            sums += found[2]
    if sums.pop("unknown", 0):
        return []
    pending, dead = f"gc|{CallbackStatus.PENDING}", f"gc|{CallbackStatus.DEAD}"
    sums[pending] = sizes["outbox"]
    delivered = sums.pop("callbacks", 0) - sums[pending] - sums[dead]
    sums[f"gc|{CallbackStatus.DELIVERED}"] = delivered
    return [
        GaugeDifference(partition=partition, gauge=name, stored=before[name], expected=sums[name])
        for name in sorted(before.keys() | sums.keys())
        if before[name] != sums[name]
    ]


def _listed(ctx: OpContext, partition: int, group: str, place: str | None) -> Op[list[str]]:
    """The next entries of a group of the listing, "inserted|id", newest first."""
    # Up to twice as many come, to the end of a millisecond.
    some = ListPlaces(group, place, ITEMS_PER_CALL // 2)
    listed = yield from ask(ctx.keys.partition(partition), some)
    return listed.pages[0].places
