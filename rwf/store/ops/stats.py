"""What the whole fleet has counted: the statistics of all partitions, summed (SPEC section 10)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from rwf.errors import RwfError
from rwf.store.catalog import CONNECT, Arg, Call, Op
from rwf.store.keys import Keys

_BEGIN: Final = "-"


@dataclass(frozen=True, slots=True)
class Fleet:
    """The sums of one reading.

    ``counts`` has the statistics by their stored fields. ``ready_seconds``: how long the longest
    waiting of the steps that would be claimed next, each in its queue and priority, has been
    available; 0 when none waits. ``sweep_seconds``: how long ago the last sweep of open workflows
    has ended, or begun when none has yet ended, in the partition where that is longest ago; None
    before the first.
    """

    counts: Mapping[str, int]
    ready_seconds: float
    sweep_seconds: float | None


@dataclass(frozen=True, slots=True)
class _Partition:
    """Times are in milliseconds of the server; ``swept`` is when its open workflows last were."""

    now: int
    oldest: int | None
    swept: int | None
    counts: Mapping[str, int]


def fleet(keys: Keys) -> Op[Fleet]:
    """Reads every partition, with one call for each.

    Raises RwfError where somebody has spoilt what is counted.
    """
    if not keys.partitions:
        yield CONNECT
    # Others may have added some since.
    partitions, _ = yield Call("meta", [keys.meta()])
    counts: Counter[str] = Counter()
    ready: list[int] = []
    swept: list[int] = []
    for partition in range(int(partitions or keys.partitions)):
        found = yield from _partition(keys, partition)
        counts.update(found.counts)
        if found.oldest is not None:
            ready.append(found.now - found.oldest)
        if found.swept is not None:
            swept.append(found.now - found.swept)
    return Fleet(
        counts=counts,
        ready_seconds=max(ready, default=0) / 1000,
        sweep_seconds=max(swept) / 1000 if swept else None,
    )


def _partition(keys: Keys, partition: int) -> Op[_Partition]:
    """One partition; of very many queues and priorities some in each call."""
    names = [*keys.partition(partition), keys.sweep(partition)]
    oldest: list[int] = []
    bound: Arg | None = _BEGIN
    while bound is not None:
        now, since, bound, sweep, counts = yield Call("stats", names, [bound])
        if since is not None:
            oldest.append(int(since))
    at = _hash(sweep)
    swept = at.get("open:ended") or at.get("open:began")
    try:
        numbers = {name: int(value) for name, value in _hash(counts).items()}
        return _Partition(
            int(now), min(oldest, default=None), int(swept) if swept else None, numbers
        )
    except ValueError:
        message = f"of the statistics of partition {partition} one is no whole number: delete it"
        raise RwfError(message) from None


def _hash(flat: Any) -> dict[str, str]:
    texts = [part.decode(errors="replace") for part in flat]
    return dict(zip(texts[::2], texts[1::2], strict=True))
