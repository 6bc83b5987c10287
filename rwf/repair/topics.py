"""A topic's registrations, compared with its own record and with the waits of its workflows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from rwf.model.limits import ITEMS_PER_CALL
from rwf.ops.base import OpContext, Slots
from rwf.ops.waits import Fate, Topic, TopicRepair, Unsettled, number_of, settle, update_topic
from rwf.protocol.functions.repairs import RegisteredWait, RepairTopic
from rwf.protocol.functions.waits import AskedWait, WaitOutcomes
from rwf.protocol.keys import partition_of
from rwf.protocol.requests import Op, ask

# Where a scan begins, and what it answers at its end.
_END: Final = "0"

_KNOWN_AS: Final = {"w": "w", "x": "x", "r": "g", "g": "g", "n": ""}
"""A wait as its topic stores it."""


def check_topic(ctx: OpContext, digest: str) -> Op[Counter[str]]:
    """Repairs a topic's registrations and its timer; tells it of waits that are over and, by its
    record, are not. Returns how many repairs of each kind that took.
    """
    repairs: Counter[str] = Counter()
    unsettled: Unsettled = {}
    for of_record in (False, True):
        cursor = ""
        while cursor != _END:
            page = RepairTopic(of_record, cursor or _END)
            found = yield from ask(ctx.keys.topic(digest), page)
            cursor = found.cursor
            repairs += Counter(found.kinds)
            if found.waits and found.topic is not None:
                topic = Topic.stored(found.topic)
                repairs += yield from _check_waits(ctx, topic, found.waits, unsettled)
    yield from settle(ctx, unsettled)
    return repairs


def _check_waits(
    ctx: OpContext, topic: Topic, waits: Iterable[RegisteredWait], unsettled: Unsettled
) -> Op[Counter[str]]:
    """Compares waits that a topic believes in with their workflows' records."""
    repairs: Counter[str] = Counter()
    by_partition: dict[int, list[RegisteredWait]] = {}
    for wait in waits:
        if (partition := partition_of(wait.workflow_id)) is not None:
            by_partition.setdefault(partition, []).append(wait)
    for partition, some in by_partition.items():
        for start in range(0, len(some), ITEMS_PER_CALL):
            page = some[start : start + ITEMS_PER_CALL]
            fates = yield from _fates(ctx, partition, page)
            for wait, fate in zip(page, fates, strict=True):
                if _KNOWN_AS.get(fate.what, wait.state) != wait.state:
                    kind = yield from update_topic(
                        ctx, topic, fate, unsettled, repair=TopicRepair.RECORDED
                    )
                    repairs += Counter({kind: 1} if kind else {})
    return repairs


def _fates(ctx: OpContext, partition: int, waits: Sequence[RegisteredWait]) -> Op[list[Fate]]:
    slots = Slots(ctx, partition)
    asked = [AskedWait(slots.of(wait.workflow_id), wait.step, wait.n) for wait in waits]
    found = yield from ask(slots.keys, WaitOutcomes(asked))
    fates = []
    for wait, now in zip(waits, found, strict=True):
        number = number_of(now.signal_id) if now.outcome == "r" else None
        fate = Fate(wait.workflow_id, wait.step, wait.n, now.stamp, now.outcome, number)
        fates.append(fate)
    return fates
