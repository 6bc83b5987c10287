"""A topic's registrations, compared with its own record and with the waits of its workflows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, Final

from rwf.model.limits import ITEMS_PER_CALL
from rwf.ops.base import OpContext, Slots
from rwf.ops.waits import Fate, Topic, Unsettled, number_of, settle, sync
from rwf.protocol.declare import Arg
from rwf.protocol.keys import partition_of
from rwf.protocol.requests import Call, Op

_KNOWN_AS: Final = {"w": "w", "x": "x", "r": "g", "g": "g", "n": ""}
"""What a topic that was told of a wait knows of it."""


def check_topic(ctx: OpContext, digest: str) -> Op[Counter[str]]:
    """Mends a topic's registrations and its timer; tells it of waits that are over and, by its
    record, are not. Returns how many repairs of each kind that took.
    """
    repairs: Counter[str] = Counter()
    unsettled: Unsettled = {}
    for key in ("reg", "sig"):
        cursor: Arg = 0
        while cursor != b"0":
            kinds, cursor, name, waits = yield Call(
                "registrations", ctx.keys.topic(digest), [key, cursor]
            )
            repairs += Counter(kind.decode() for kind in kinds)
            if waits:
                topic = Topic.stored(name)
                repairs += yield from _check_waits(ctx, topic, waits, unsettled)
    yield from settle(ctx, unsettled)
    return repairs


def _check_waits(
    ctx: OpContext, topic: Topic, waits: Iterable[Any], unsettled: Unsettled
) -> Op[Counter[str]]:
    """Compares waits that a topic believes in with their workflows' records."""
    repairs: Counter[str] = Counter()
    by_partition: dict[int, list[list[str]]] = {}
    for wait in waits:
        parts = [part.decode() for part in wait]
        if (partition := partition_of(parts[0])) is not None:
            by_partition.setdefault(partition, []).append(parts)
    for partition, some in by_partition.items():
        for start in range(0, len(some), ITEMS_PER_CALL):
            page = some[start : start + ITEMS_PER_CALL]
            fates = yield from _fates(ctx, partition, page)
            for (*_, known), fate in zip(page, fates, strict=True):
                if _KNOWN_AS.get(fate.what, known) != known:
                    kind = yield from sync(ctx, topic, fate, unsettled, repair="1")
                    repairs += Counter({kind: 1} if kind else {})
    return repairs


def _fates(ctx: OpContext, partition: int, waits: list[list[str]]) -> Op[list[Fate]]:
    slots = Slots(ctx, partition)
    args: list[Arg] = []
    for workflow_id, step, n, _ in waits:
        args += [slots.of(workflow_id), step, n]
    found = yield Call("standing", slots.keys, args)
    fates = []
    for (workflow_id, step, n, _), answer in zip(waits, found, strict=True):
        what, stamp, signal_id = (part.decode() for part in answer)
        number = number_of(signal_id) if what == "r" else None
        fates.append(Fate(workflow_id, step, int(n), stamp, what, number))
    return fates
