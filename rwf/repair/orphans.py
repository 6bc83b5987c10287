"""Orphans: entries of derived sorted sets that the records do not imply.

``reconcile`` adds what a workflow's records imply and a derived set lacks. The other direction
starts from the entries: each names its owner, whose records are asked and, in the same call, the
entry is removed or moved. So nothing is removed that a transition has just made right. An entry
that cannot be read, or that names an owner of another partition, goes too; a timer of a kind that
this release does not know stays.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from rwf.model.limits import ITEMS_PER_CALL
from rwf.model.states import CallbackStatus, StepState
from rwf.ops.base import OpContext, Slots, catch_errors
from rwf.ops.scans import scan
from rwf.protocol.functions.repairs import CountGauges, DerivedEntry, RemoveOrphans, RepairKeys
from rwf.protocol.keys import home_partition, partition_of
from rwf.protocol.requests import Op, ask
from rwf.repair.topics import check_topic

Repairs = Counter[str]
"""How many repairs of each kind were made."""

_ENTRIES_PER_CALL: Final = 200
_READY: Final = re.compile(rb"[^|:]+:[^|]+\|[0-9a-f]+\|(?P<owner>[^|]+)\|(?P<step>[^|]+)")
_FORMS: Final = {
    "ready": _READY,
    "reserved": _READY,
    "timers": re.compile(rb"[rl]\|(?P<owner>[^|]+)\|(?P<step>[^|]+)|[wuxbd]\|(?P<whole>[^|]+)"),
    "outbox": re.compile(rb"(?P<owner>[^|]+)\|(?P<step>[1-9][0-9]{0,9})"),
    "index": re.compile(rb"[a-z]\|[0-9a-f]+\|(?P<owner>[^|]+)"),
    "staged": re.compile(rb"(?P<owner>[^|]+)(\|(?P<step>[0-9a-f]+))?"),
    "tags": re.compile(rb"[^|]+\|[0-9a-f]+\|(?P<owner>[^|]+)"),
}
"""The form of each set's entries; ``step`` is an outbox entry's number, and a staged
fragment's token."""

DERIVED_SETS: Final = tuple(_FORMS)

NO_VERSION: Final = "?"
"""The semantics version of a workflow whose record cannot be read."""

_TOPIC_TIMER: Final = re.compile(rb"s\|([0-9a-f]{40})")
_UNKNOWN_TIMER: Final = re.compile(rb"[a-z](?<![rlwuxbds])\|.+", re.DOTALL)


@dataclass(frozen=True, slots=True)
class _Entry:
    """An entry of a derived set; ``owner`` is None when no workflow of the partition can be it."""

    member: bytes
    owner: str | None
    step: bytes


def remove_orphans(ctx: OpContext, partition: int) -> Op[Repairs]:
    """Removes orphaned entries in a partition whose workflows lack nothing.

    Ready queue, listing, tag index and outbox are gone through only when their size or their scores
    show that there is something. Topics are looked at when they have a timer.
    """
    repairs: Repairs = Counter()
    for name in (yield from _suspects(ctx, partition)):
        repairs += yield from remove_from(ctx, partition, name)
    return repairs


def _suspects(ctx: OpContext, partition: int) -> Op[list[str]]:
    """The derived sets that may hold orphaned entries, if none lacks anything."""
    gauges, sizes, _ = yield from count_gauges(ctx, partition, ())
    misplaced = sizes["misplaced"] > 0
    queued = sizes["ready"] + sizes["reserved"] > gauges[f"gs|{StepState.AVAILABLE}"]
    suspected = {
        "ready": misplaced or queued,
        "reserved": misplaced or queued,
        "index": misplaced or _unlisted(gauges, sizes) < 0,
        "outbox": sizes["outbox"] > gauges[f"gc|{CallbackStatus.PENDING}"],
        "tags": misplaced or sizes["tags"] > gauges["gt|tags"],
    }
    return [name for name in DERIVED_SETS if suspected.get(name, True)]


def unlisted(ctx: OpContext, partition: int) -> Op[int]:
    """How many workflows the listing lacks, by the gauges."""
    gauges, sizes, _ = yield from count_gauges(ctx, partition, ())
    return _unlisted(gauges, sizes)


def _unlisted(gauges: Counter[str], sizes: Counter[str]) -> int:
    workflows = sum(count for name, count in gauges.items() if name.startswith("gw|"))
    return workflows - sizes["index"]


def count_gauges(
    ctx: OpContext, partition: int, workflow_ids: Iterable[str]
) -> Op[tuple[Counter[str], Counter[str], Counter[str]]]:
    """A partition's gauges, its derived sets' sizes, and what the workflows add to gauges."""
    found = yield from ask(Slots(ctx, partition, workflow_ids).keys, CountGauges())
    return Counter(dict(found.gauges)), Counter(dict(found.sizes)), Counter(dict(found.sums))


def remove_from(ctx: OpContext, partition: int, name: str) -> Op[Repairs]:
    """Removes orphaned entries from one of the ``DERIVED_SETS``, a page at a time."""
    repairs: Repairs = Counter()
    key = ctx.keys.derived(partition, name)
    cursor: int | None = None
    while cursor != 0:
        [page] = yield from scan((key, cursor or 0))
        if page is None:
            # Somebody has overwritten the key.
            return repairs + (yield from restore_keys(ctx, partition, ()))[0]
        cursor, members = page
        if name == "timers":
            members, digests = _without_topics(ctx, partition, members)
            for digest in digests:
                repairs += _repairs((yield from catch_errors(check_topic(ctx, digest))))
        entries = [_entry(name, partition, member) for member in members]
        if name == "timers":
            repairs += yield from _check_wait_notices(ctx, partition, entries)
        repairs += yield from _judge(ctx, partition, name, entries)
    return repairs


def _without_topics(
    ctx: OpContext, partition: int, members: Sequence[bytes]
) -> tuple[list[bytes], list[str]]:
    """The timers that are to be judged by workflows, and the topics that others belong to."""
    others: list[bytes] = []
    digests: list[str] = []
    for member in members:
        topic = _TOPIC_TIMER.fullmatch(member)
        if topic and home_partition(topic[1].decode(), ctx.keys.home_partitions) == partition:
            digests.append(topic[1].decode())
        elif topic or not _UNKNOWN_TIMER.fullmatch(member):
            others.append(member)
    return others, digests


def _entry(name: str, partition: int, member: bytes) -> _Entry:
    match = _FORMS[name].fullmatch(member)
    parts = match.groupdict() if match else {}
    owner = (parts.get("owner") or parts.get("whole") or b"").decode(errors="replace")
    if partition_of(owner) != partition:
        return _Entry(member, None, b"")
    return _Entry(member, owner, parts.get("step") or b"")


def _check_wait_notices(ctx: OpContext, partition: int, timers: Sequence[_Entry]) -> Op[Repairs]:
    """Removes orphaned wait notices of the workflows whose waits have a timer.

    A workflow that has any notice has one.
    """
    repairs: Repairs = Counter()
    owners = {entry.owner: 0 for entry in timers if entry.owner and entry.member.startswith(b"w|")}
    while owners:
        some = list(owners)[:ITEMS_PER_CALL]
        sets = [(ctx.keys.wait_notices(owner), owners.pop(owner)) for owner in some]
        pages = yield from scan(*sets)
        entries = []
        for owner, page in zip(some, pages, strict=True):
            if page is None:
                repairs += (yield from restore_keys(ctx, partition, [owner]))[0]
                continue
            cursor, members = page
            entries += [_Entry(member, owner, member.lstrip(b"!")) for member in members]
            if cursor:
                owners[owner] = cursor
        repairs += yield from _judge(ctx, partition, "wait_notices", entries)
    return repairs


def _judge(ctx: OpContext, partition: int, name: str, entries: Sequence[_Entry]) -> Op[Repairs]:
    repairs: Repairs = Counter()
    for some in _calls(entries):
        found = yield from catch_errors(_judge_some(ctx, partition, name, some))
        repairs += _repairs(found)
        if isinstance(found, Exception):
            for entry in some:
                one = _judge_some(ctx, partition, name, [entry])
                repairs += _repairs((yield from catch_errors(one)))
    return repairs


def _repairs(found: Repairs | Exception) -> Repairs:
    """None where records cannot be read."""
    return Counter() if isinstance(found, Exception) else found


def _calls(entries: Sequence[_Entry]) -> Iterator[list[_Entry]]:
    """Cuts entries into what one call judges."""
    some: list[_Entry] = []
    owners: set[str | None] = set()
    for entry in entries:
        if len(some) == _ENTRIES_PER_CALL or len(owners | {entry.owner}) > ITEMS_PER_CALL:
            yield some
            some, owners = [], set()
        some.append(entry)
        owners.add(entry.owner)
    if some:
        yield some


def _judge_some(
    ctx: OpContext, partition: int, name: str, entries: Sequence[_Entry]
) -> Op[Repairs]:
    slots = Slots(ctx, partition)
    judged = [
        DerivedEntry(0 if entry.owner is None else slots.of(entry.owner), entry.step, entry.member)
        for entry in entries
    ]
    kind, count = yield from ask(slots.keys, RemoveOrphans(name, judged))
    return Counter({kind: count} if count else {})


def restore_keys(
    ctx: OpContext, partition: int, workflow_ids: Sequence[str]
) -> Op[tuple[Repairs, list[str]]]:
    """Repairs the derived entries of some workflows, except those of their steps
    (``repair_keys.lua``). Returns the repairs, and each workflow's semantics version: "" when it is
    not visible, NO_VERSION where the record cannot be read.
    """
    found = yield from ask(Slots(ctx, partition, workflow_ids).keys, RepairKeys())
    return Counter(found.kinds), found.versions
