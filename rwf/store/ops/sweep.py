"""Sweeping a partition: its workflows are held against their derived keys, round after round.

A page of the listing is audited in one call that reads only, and what it finds suspicious is
reconciled. Where a round stands is stored, so that another daemon goes on from there. The steps of
a large graph are audited apart, a few chunks a slice, so that no slice costs much.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final, NamedTuple

from rwf.model.limits import CHUNK
from rwf.model.views import ReconcileReport
from rwf.store.catalog import Arg, Call, Op
from rwf.store.keys import home_partition, partition_of
from rwf.store.ops.base import Scope, passing_over
from rwf.store.ops.insert import tidy
from rwf.store.ops.rebuild import restore
from rwf.store.ops.reconcile import reconcile
from rwf.store.ops.surplus import Repairs, remove_surplus, unlisted
from rwf.store.ops.topics import check_topic
from rwf.store.ops.waits import Topic
from rwf.store.records import STATES, Header

_ENTRY: Final = re.compile(rb"([a-z])\|[0-9a-f]+\|([0-9a-z-]+)")
_WORKFLOWS_PER_CALL: Final = 64
_TOPICS_PER_CALL: Final = 64
_CHUNKS_PER_SLICE: Final = 5
# In seconds. To audit a field takes the server about 3 us where there are 100,000 workflows, less
# where there are few: a sweep is meant to take less than 2% of a core.
_PAUSE_PER_FIELD: Final = 200e-6


class Kind(StrEnum):
    """What a sweep goes through: the workflows that are open, or those that have ended."""

    OPEN = "open"
    ENDED = "ended"


@dataclass(slots=True)
class _Large:
    """A large graph, and what is known of its steps so far."""

    workflow_id: str
    chunks: int
    next: int = 0
    counts: bytes | None = None
    """Its header's, as long as they are the same at each chunk."""
    tally: list[int] = field(default_factory=lambda: [0] * len(STATES))
    topics: dict[str, str] = field(default_factory=dict)
    """Those of its waits that have something wrong; each with the workflow's id."""


@dataclass(slots=True)
class Place:
    """Where this daemon stands in a sweep of a partition."""

    partition: int
    kind: Kind
    at: bytes = b""
    large: deque[_Large] = field(default_factory=deque)
    unlisted: int = 0
    """How many workflows the listing lacked when it was last restored: what that has left, another
    time would not mend."""
    fields: int = 0
    """How many fields of workflows the slice under way has read."""


class Slice(NamedTuple):
    """What a slice of a sweep came to.

    ``pause``: the seconds until the next is due. ``mended``: what was reconciled, and not left as
    it was. ``ended``: the round has come to its end; ``tidied``: what was then mended that is no
    single workflow's, by kind.
    """

    pause: float
    mended: Sequence[ReconcileReport] = ()
    ended: bool = False
    tidied: Mapping[str, int] = MappingProxyType({})


def sweep(scope: Scope, place: Place, interval: float, *, anew: bool = False) -> Op[Slice]:
    """The next slice of a sweep whose rounds are to take ``interval`` seconds, or as long as they
    must.

    ``anew`` begins a round, whatever one is under way.
    """
    place.fields = 0
    if place.large and not anew:
        return (yield from _sweep_large(scope, place))
    pause, under_way, *entries = yield _round(scope, place, "begin" if anew else "go on", interval)
    # Where somebody has changed the scores there is no order to go on in: the round ends, which
    # mends that.
    if entries and entries[-1] > place.at:
        mended = yield from _sweep_page(scope, place, entries)
        place.at = entries[-1]
        return Slice(max(int(pause) / 1000, place.fields * _PAUSE_PER_FIELD), mended)
    place.at = b""
    if not under_way:
        return Slice(int(pause) / 1000)
    tidied: Repairs = Counter()
    if place.kind is Kind.OPEN:
        tidied = yield from _end_round(scope, place)
    pause, *_ = yield _round(scope, place, "end", interval)
    return Slice(int(pause) / 1000, ended=True, tidied=tidied)


def _end_round(scope: Scope, place: Place) -> Op[Repairs]:
    """What is no single workflow's, once a round. Workflows that the listing lacks are met by no
    sweep: they are looked for among all keys."""
    if (yield from unlisted(scope, place.partition)) > place.unlisted:
        repairs = Counter((yield from restore(scope, place.partition)).repairs)
        place.unlisted = max((yield from unlisted(scope, place.partition)), 0)
    else:
        repairs = yield from remove_surplus(scope, place.partition)
    yield from tidy(scope, place.partition)
    return repairs


def _round(scope: Scope, place: Place, verb: str, interval: float) -> Call:
    keys = [*scope.keys.partition(place.partition), scope.keys.sweep(place.partition)]
    args: list[Arg] = [place.kind, verb, place.at, _WORKFLOWS_PER_CALL, round(interval * 1000)]
    return Call("round", keys, args)


def _sweep_page(scope: Scope, place: Place, entries: Sequence[bytes]) -> Op[list[ReconcileReport]]:
    """Audits these workflows, and reconciles those that may need it."""
    left = list(_listed(entries, place.partition))
    suspects: dict[str, None] = {}
    topics: dict[str, str] = {}
    while left:
        keys = scope.keys.partition(place.partition)
        keys += [key for _, workflow_id in left for key in scope.keys.audited(workflow_id)]
        groups = "".join(group for group, _ in left)
        looked, fields, differing, large, registered = yield Call("audit", keys, [groups])
        left = left[looked:]
        place.fields += fields
        suspects |= dict.fromkeys(workflow_id.decode() for workflow_id in differing)
        for workflow_id, steps in zip(large[::2], large[1::2], strict=True):
            place.large.append(_Large(workflow_id.decode(), -(-int(steps) // CHUNK)))
        topics |= yield from _unregistered(scope, registered)
    mended = yield from _reconcile(scope, suspects | dict.fromkeys(topics.values()))
    yield from _check_topics(scope, topics)
    return mended


def _check_topics(scope: Scope, digests: Iterable[str]) -> Op[None]:
    """Mends what a topic itself shows to be wrong, once its workflow has told it of its waits."""
    for digest in digests:
        yield from passing_over(check_topic(scope, digest), f"topic {digest}")


def _listed(entries: Sequence[bytes], partition: int) -> Iterator[tuple[str, str]]:
    """The groups and ids of these entries; one of another partition, or of nothing, is surplus."""
    for entry in entries:
        match = _ENTRY.fullmatch(entry)
        if match and partition_of(match[2].decode()) == partition:
            yield match[1].decode(), match[2].decode()


def _sweep_large(scope: Scope, place: Place) -> Op[Slice]:
    """Audits the next chunks of the first of the large graphs, and reconciles it if need be."""
    one = place.large[0]
    whose = f"workflow {one.workflow_id}"
    differs = yield from passing_over(_audit_chunks(scope, place, one), whose)
    if differs or differs is None or one.next == one.chunks:
        place.large.popleft()
    mended = yield from _reconcile(scope, [one.workflow_id] if differs else [])
    yield from _check_topics(scope, one.topics)
    return Slice(place.fields * _PAUSE_PER_FIELD, mended)


def _audit_chunks(scope: Scope, place: Place, one: _Large) -> Op[bool]:
    """Whether the next chunks of a large graph may differ or, with the last, its counts."""
    keys = [*scope.keys.partition(place.partition), *scope.keys.audited(one.workflow_id)]
    for _ in range(_CHUNKS_PER_SLICE):
        reply = yield Call("audit_chunk", keys, [one.next])
        if not reply:
            one.next = one.chunks
            return False
        differs, registered, counts, tally = reply
        one.counts = counts if one.next == 0 or one.counts == counts else None
        one.tally = [total + more for total, more in zip(one.tally, tally, strict=True)]
        one.next += 1
        place.fields += sum(tally)
        one.topics = yield from _unregistered(scope, registered)
        if differs or one.topics:
            return True
        if one.next == one.chunks:
            told = Header.counts_of(one.counts) if one.counts is not None else None
            return told is not None and one.tally != [told[state] for state in STATES]
    return False


def _unregistered(scope: Scope, registered: Sequence[bytes]) -> Op[dict[str, str]]:
    """The topics that lack a wait which they were told of, or hold something wrong; for each, a
    workflow that waits there.

    ``registered`` is as ``audit`` tells it; topics are asked at their homes, many at once.
    """
    by_home: defaultdict[int, list[tuple[str, bytes, str]]] = defaultdict(list)
    for at in range(0, len(registered), 3):
        workflow_id, topic, member = registered[at : at + 3]
        digest = Topic.stored(topic).digest
        home = home_partition(digest, scope.keys.homes)
        by_home[home].append((digest, member, workflow_id.decode()))
    found: dict[str, str] = {}
    for home, waits in by_home.items():
        for start in range(0, len(waits), _TOPICS_PER_CALL):
            some = waits[start : start + _TOPICS_PER_CALL]
            keys = scope.keys.topics(home, [digest for digest, _, _ in some])
            lacking = yield Call("registered", keys, [member for _, member, _ in some])
            for digest, _, workflow_id in (some[place - 1] for place in lacking):
                found[digest] = workflow_id
    return found


def _reconcile(scope: Scope, workflow_ids: Iterable[str]) -> Op[list[ReconcileReport]]:
    """What was mended of these; one that cannot be reconciled is passed over."""
    reports = []
    for workflow_id in workflow_ids:
        whose = f"workflow {workflow_id}"
        report = yield from passing_over(reconcile(scope, workflow_id), whose)
        if report is not None and report.repairs:
            reports.append(report)
    return reports
