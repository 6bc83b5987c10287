"""What the whole fleet has counted: the statistics of all partitions, summed (SPEC section 10)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from rwf.errors import RwfError, StoreUnavailable
from rwf.ops.base import reached
from rwf.protocol.declare import Arg
from rwf.protocol.functions.namespace import Namespace
from rwf.protocol.keys import Keys
from rwf.protocol.requests import CONNECT, Call, Op, Together

_BEGIN: Final = "-"


@dataclass(frozen=True, slots=True)
class Fleet:
    """The sums of one reading.

    ``counts`` has the statistics by their stored fields. ``ready_seconds``: how long the longest
    waiting of the steps that would be claimed next, each in its queue and priority, has been
    available; 0 when none waits. ``sweep_seconds``: how long ago the last sweep of open workflows
    has ended, or begun when none has yet ended, in the partition where that is longest ago; None
    before the first. ``round_seconds``: how long such a sweep takes, where it takes longest: what
    the latest has taken or, judged by how far it has come, what the present one will, and at least
    the daemons' sweep interval; 0 while that is unknown. ``unreachable``: the partitions that did
    not answer, which are in none of these.
    """

    counts: Mapping[str, int]
    ready_seconds: float
    sweep_seconds: float | None
    round_seconds: float
    unreachable: tuple[int, ...] = ()


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
    round: float = 0.0
    counts: Mapping[str, int] = field(default_factory=dict)
    unreachable: bool = False

    def call(self) -> Call:
        names = [*self.keys.partition(self.number), self.keys.sweep(self.number)]
        return Call("stats", names, [self.bound or _BEGIN])

    def take(self, reply: Sequence[Any] | StoreUnavailable) -> None:
        if isinstance(reply, StoreUnavailable):
            self.unreachable, self.bound = True, None
            return
        now, since, self.bound, sweep, counts, *progress = reply
        self.now = int(now)
        if since is not None:
            self.waiting.append(self.now - int(since))
        at = _hash(sweep)
        ended = at.get("open:ended") or at.get("open:began")
        try:
            self.swept = self.now - int(ended) if ended else None
            self.round = _round(at, *map(int, progress))
            self.counts = {name: int(value) for name, value in _hash(counts).items()}
        except ValueError:
            message = (
                f"of the statistics of partition {self.number} one is no whole number: delete it"
            )
            raise RwfError(message) from None


def fleet(keys: Keys) -> Op[Fleet]:
    """Reads every partition, all of them in each round trip.

    Raises RwfError where somebody has spoilt what is counted, StoreUnavailable when no partition
    answers.
    """
    if not keys.partitions:
        yield CONNECT
    found = [_Partition(keys, number) for number in range(keys.partitions)]
    while unread := [one for one in found if one.bound is not None]:
        calls = [Call(Namespace.name, [keys.meta()]), *(one.call() for one in unread)]
        meta, *replies = reached((yield Together(calls, partial=True)))
        for one, reply in zip(unread, replies, strict=True):
            one.take(reply)
        # Others may have added some since.
        known = None if isinstance(meta, StoreUnavailable) else Namespace.decoded(meta).now
        found += [_Partition(keys, number) for number in range(len(found), known or 0)]
    if all(one.unreachable for one in found):
        raise StoreUnavailable("no partition answers")
    counts: Counter[str] = Counter()
    for one in found:
        counts.update(one.counts)
    swept = [one.swept for one in found if one.swept is not None]
    return Fleet(
        counts=counts,
        ready_seconds=max((age for one in found for age in one.waiting), default=0) / 1000,
        sweep_seconds=max(swept) / 1000 if swept else None,
        round_seconds=max((one.round for one in found), default=0.0) / 1000,
        unreachable=tuple(one.number for one in found if one.unreachable),
    )


def _round(sweep: Mapping[str, str], passed: int, listed: int) -> float:
    """How long a sweep of open workflows takes, in milliseconds; ``passed`` of ``listed`` of them
    are behind the present one."""
    expected = float(max(int(sweep.get(f"open:{name}", 0)) for name in ("interval", "took")))
    if passed and "open:seen" in sweep:
        # Up to when it came there: of one that stands still nobody knows how long it will take.
        so_far = int(sweep["open:seen"]) - int(sweep["open:began"])
        expected = max(expected, so_far * listed / passed)
    return expected


def _hash(flat: Any) -> dict[str, str]:
    texts = [part.decode(errors="replace") for part in flat]
    return dict(zip(texts[::2], texts[1::2], strict=True))
