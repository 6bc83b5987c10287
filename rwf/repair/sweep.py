"""Sweeping a partition: its workflows are compared with their derived keys, round after round.

A page of the listing is audited, and what that finds suspicious is reconciled. Where a round
stands is stored, so that another daemon goes on from there. The steps of a large graph are audited
apart, a few chunks a slice, so that no slice costs much.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final, NamedTuple

from rwf.errors import NotFound
from rwf.model.views import ReconcileReport
from rwf.ops.base import OpContext, passing_over
from rwf.ops.insert import tidy
from rwf.protocol.functions.sweeps import EndSweepRound, LexRange, NextSweepPage
from rwf.protocol.keys import partition_of
from rwf.protocol.requests import Op, Read, ask
from rwf.repair.audit import Findings, Large, Listed, audit, audit_large, overwritten
from rwf.repair.orphans import Repairs, remove_orphans, restore_keys, unlisted
from rwf.repair.rebuild import restore
from rwf.repair.reconcile import reconcile
from rwf.repair.topics import check_topic

_ENTRY: Final = re.compile(rb"([a-z])\|[0-9a-f]+\|([0-9a-z-]+)")
_WORKFLOWS_PER_CALL: Final = 256
# In seconds. To audit a field takes the server about 1 us: a sweep is meant to take less than 2%
# of a core.
_PAUSE_PER_FIELD: Final = 62e-6


class Kind(StrEnum):
    """The workflows that a sweep goes through: those that are open, or those that have ended."""

    OPEN = "open"
    ENDED = "ended"


@dataclass(slots=True)
class Place:
    """How far this daemon is in a sweep of a partition."""

    partition: int
    kind: Kind
    at: bytes = b""
    large: deque[Large] = field(default_factory=deque)
    unlisted: int = 0
    """How many workflows the listing lacked when it was last restored: what that has left, another
    time would not mend."""
    fields: int = 0
    """How many fields of workflows the slice under way has read."""
    sound: bool = False
    """Whether no derived key was of another type when this daemon began with the round, and no
    slice has failed since."""


class Slice(NamedTuple):
    """The result of a slice of a sweep.

    ``pause``: the seconds until the next is due. ``mended``: what was reconciled, and not left as
    it was. ``ended``: the round has come to its end; ``tidied``: what was mended at its begin and
    at its end that is no single workflow's, by kind.
    """

    pause: float
    mended: Sequence[ReconcileReport] = ()
    ended: bool = False
    tidied: Mapping[str, int] = MappingProxyType({})


def sweep(ctx: OpContext, place: Place, interval: float, *, anew: bool = False) -> Op[Slice]:
    """The next slice of a sweep whose rounds are to take ``interval`` seconds, or as long as they
    must.

    ``anew`` begins a round, whatever one is under way. Raises RwfError when somebody has
    overwritten a derived key since the round began; the next slice repairs that.
    """
    restored: Repairs = Counter()
    if anew or not place.sound:
        restored = yield from _restore_overwritten(ctx, place.partition)
    place.sound = False
    done = yield from _next_slice(ctx, place, interval, anew)
    place.sound = not done.ended
    return done._replace(tidied=restored + Counter(done.tidied))


def _restore_overwritten(ctx: OpContext, partition: int) -> Op[Repairs]:
    """Removes derived keys that have been overwritten with another type, and all that is
    derived restored: part of it no single workflow implies."""
    repairs, _ = yield from restore_keys(ctx, partition, ())
    return repairs and repairs + Counter((yield from restore(ctx, partition)).repairs)


def _next_slice(ctx: OpContext, place: Place, interval: float, anew: bool) -> Op[Slice]:
    place.fields = 0
    if place.large and not anew:
        return (yield from _sweep_large(ctx, place))
    interval_ms, keys = round(interval * 1000), _sweep_keys(ctx, place)
    limit = _WORKFLOWS_PER_CALL
    asked = NextSweepPage(place.kind, anew, place.at or None, limit, interval_ms)
    pause_ms, under_way, ranges = yield from ask(keys, asked)
    entries = yield from _page(ctx, place, ranges)
    # Where somebody has changed the scores there is no order to go on in: the round ends, which
    # mends that.
    if entries and entries[-1] > place.at:
        mended = yield from _sweep_page(ctx, place, entries)
        place.at = entries[-1]
        return Slice(max(pause_ms / 1000, place.fields * _PAUSE_PER_FIELD), mended)
    place.at = b""
    if not under_way:
        return Slice(pause_ms / 1000)
    tidied: Repairs = Counter()
    if place.kind is Kind.OPEN:
        tidied = yield from _end_round(ctx, place)
    pause_ms = yield from ask(keys, EndSweepRound(place.kind, interval_ms))
    return Slice(pause_ms / 1000, ended=True, tidied=tidied)


def _end_round(ctx: OpContext, place: Place) -> Op[Repairs]:
    """Repairs, once a round, entries that belong to no single workflow. Workflows that the listing
    lacks are met by no sweep: they are looked for among all keys."""
    if (yield from unlisted(ctx, place.partition)) > place.unlisted:
        repairs = Counter((yield from restore(ctx, place.partition)).repairs)
        place.unlisted = max((yield from unlisted(ctx, place.partition)), 0)
    else:
        repairs = yield from remove_orphans(ctx, place.partition)
    yield from tidy(ctx, place.partition)
    return repairs


def _sweep_keys(ctx: OpContext, place: Place) -> list[str]:
    return [*ctx.keys.partition(place.partition), ctx.keys.sweep(place.partition)]


def _page(ctx: OpContext, place: Place, ranges: Sequence[LexRange]) -> Op[list[bytes]]:
    """The next entries of the listing, within the first of these ranges and then the next."""
    if not ranges:
        return []
    index = ctx.keys.derived(place.partition, "index")
    limit = ("LIMIT", 0, _WORKFLOWS_PER_CALL)
    found = yield Read(index, [("ZRANGEBYLEX", index, *each, *limit) for each in ranges])
    if any(isinstance(some, Exception) for some in found):
        raise overwritten(index)
    return [entry for some in found for entry in some][:_WORKFLOWS_PER_CALL]


def _sweep_page(
    ctx: OpContext, place: Place, entries: Sequence[bytes]
) -> Op[list[ReconcileReport]]:
    """Audits these workflows, and reconciles those that may need it."""
    listed = list(_listed(entries, place.partition))
    found = yield from audit(ctx, place.partition, listed)
    if found.suspects:
        # Most have only moved between two reads of many; a look at few is over sooner.
        again = [one for one in listed if one[1] in found.suspects]
        found.suspects = (yield from audit(ctx, place.partition, again)).suspects
    place.large += found.large
    return (yield from _mend(ctx, place, found))


def _sweep_large(ctx: OpContext, place: Place) -> Op[Slice]:
    """Audits and repairs the next chunks of the first of the large graphs."""
    one = place.large[0]
    found = yield from audit_large(ctx, place.partition, one)
    if not one.chunks:
        place.large.popleft()
    mended = yield from _mend(ctx, place, found)
    return Slice(place.fields * _PAUSE_PER_FIELD, mended)


def _mend(ctx: OpContext, place: Place, found: Findings) -> Op[list[ReconcileReport]]:
    """Reconciles what an audit found suspicious, and then repairs what a topic itself shows to be
    wrong, once its workflow has told it of its waits."""
    place.fields += found.fields
    mended = []
    for workflow_id in found.suspects | dict.fromkeys(found.topics.values()):
        whose = f"workflow {workflow_id}"
        report = yield from passing_over(_reconciled(ctx, workflow_id), whose)
        if report is not None and report.repairs:
            mended.append(report)
    for digest in found.topics:
        yield from passing_over(check_topic(ctx, digest), f"topic {digest}")
    return mended


def _reconciled(ctx: OpContext, workflow_id: str) -> Op[ReconcileReport | None]:
    """The workflow's reconciliation; None when it has been removed since it was listed."""
    try:
        return (yield from reconcile(ctx, workflow_id))
    except NotFound:
        return None


def _listed(entries: Sequence[bytes], partition: int) -> Iterator[Listed]:
    """The groups and ids of these entries; one of another partition, or none, is an orphan."""
    for entry in entries:
        match = _ENTRY.fullmatch(entry)
        if match and partition_of(match[2].decode()) == partition:
            yield match[1].decode(), match[2].decode()
