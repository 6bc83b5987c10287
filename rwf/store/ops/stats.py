"""What the whole fleet has counted: the statistics of all partitions, summed (SPEC section 10)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from rwf.errors import RwfError
from rwf.store.catalog import CONNECT, Arg, Call, Op, Together
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


@dataclass(slots=True)
class _Partition:
    """What has been read of one partition; of very many queues and priorities some in each call,
    from ``bound`` on, which is None at the end. Times are in milliseconds of the server."""

    keys: Keys
    number: int
    bound: Arg | None = _BEGIN
    now: int = 0
    waiting: list[int] = field(default_factory=list)
    swept: int | None = None
    counts: Mapping[str, int] = field(default_factory=dict)

    def call(self) -> Call:
        names = [*self.keys.partition(self.number), self.keys.sweep(self.number)]
        return Call("stats", names, [self.bound or _BEGIN])

    def take(self, reply: Sequence[Any]) -> None:
        now, since, self.bound, sweep, counts = reply
        self.now = int(now)
        if since is not None:
            self.waiting.append(self.now - int(since))
        at = _hash(sweep)
        ended = at.get("open:ended") or at.get("open:began")
        try:
            self.swept = self.now - int(ended) if ended else None
            self.counts = {name: int(value) for name, value in _hash(counts).items()}
        except ValueError:
            message = (
                f"of the statistics of partition {self.number} one is no whole number: delete it"
            )
            raise RwfError(message) from None


def fleet(keys: Keys) -> Op[Fleet]:
    """Reads every partition, all of them in each round trip.

    Raises RwfError where somebody has spoilt what is counted.
    """
    if not keys.partitions:
        yield CONNECT
    # Others may have added some since.
    partitions, _ = yield Call("meta", [keys.meta()])
    found = [_Partition(keys, number) for number in range(int(partitions or keys.partitions))]
    while unread := [one for one in found if one.bound is not None]:
        replies = yield Together([one.call() for one in unread])
        for one, reply in zip(unread, replies, strict=True):
            one.take(reply)
    counts: Counter[str] = Counter()
    for one in found:
        counts.update(one.counts)
    swept = [one.swept for one in found if one.swept is not None]
    return Fleet(
        counts=counts,
        ready_seconds=max((age for one in found for age in one.waiting), default=0) / 1000,
        sweep_seconds=max(swept) / 1000 if swept else None,
    )


def _hash(flat: Any) -> dict[str, str]:
    texts = [part.decode(errors="replace") for part in flat]
    return dict(zip(texts[::2], texts[1::2], strict=True))
