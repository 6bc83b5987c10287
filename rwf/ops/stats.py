"""Statistics of a namespace: the counts of all partitions, summed (contract §10)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from rwf.errors import RwfError, StoreUnavailable
from rwf.ops.base import ask_reachable
from rwf.protocol.declare import ServerFunction
from rwf.protocol.functions.namespace import Namespace
from rwf.protocol.functions.statistics import PartitionStats, Stats
from rwf.protocol.keys import Keys
from rwf.protocol.requests import CONNECT, Op

_BEGIN: Final = b"-"
_MINUTE_MS: Final = 60_000
# Whole minutes over which a rate is told, before the present one, which counts as far as it is.
_MINUTES: Final = 5
_PER_MINUTE: Final = 10_000_000


@dataclass(frozen=True, slots=True)
class Throughput:
    """Steps of a queue that have ended, other than cancelled: in all, and per minute of late."""

    ended: int = 0
    per_minute: float = 0.0


@dataclass(frozen=True, slots=True)
class Fleet:
    """The sums of one reading.

    ``counts`` has the statistics by their stored fields, ``queues`` what has ended by queue,
    ``workflows`` how many of a name have ended in a state.
    ``ready_seconds``: how long the longest waiting of the steps that would be claimed next, each in
    its queue and priority, has been available; 0 when none waits. ``sweep_seconds``: how long ago
    the last sweep of open workflows has ended, or begun when none has yet ended, in the partition
    where that is longest ago; None before the first. ``round_seconds``: how long such a sweep
    takes, where it takes longest: what the latest has taken or, judged by how far it has come, what
    the present one will, and at least the daemons' sweep interval; 0 while that is unknown.
    ``unreachable``: the partitions that did not answer, which are in none of these.
    """

    counts: Mapping[str, int]
    ready_seconds: float
    sweep_seconds: float | None
    round_seconds: float
    unreachable: tuple[int, ...] = ()
    queues: Mapping[str, Throughput] = field(default_factory=dict)
    workflows: Mapping[tuple[str, str], int] = field(default_factory=dict)


@dataclass(slots=True)
class _Partition:
    """The part of one partition that has been read; of very many queues and priorities some in each
    call, from ``bound`` on, which is None at the end. Times are in milliseconds of the server."""

    keys: Keys
    number: int
    bound: bytes | None = _BEGIN
    now: int = 0
    waiting: list[int] = field(default_factory=list)
    swept: int | None = None
    round: float = 0.0
    counts: Mapping[str, int] = field(default_factory=dict)
    unreachable: bool = False

    def asked(self) -> tuple[list[str], Stats]:
        """The next call."""
        names = [*self.keys.partition(self.number), self.keys.sweep(self.number)]
        return names, Stats(self.bound or _BEGIN)

    def take(self, reply: PartitionStats | StoreUnavailable) -> None:
        """Adds the reply to a call."""
        if isinstance(reply, StoreUnavailable):
            self.unreachable, self.bound = True, None
            return
        self.now, self.bound = reply.now_ms, reply.resume_at
        if reply.waiting_since_ms is not None:
            self.waiting.append(self.now - reply.waiting_since_ms)
        at = _hash(reply.sweep)
        ended = at.get("open:ended") or at.get("open:began")
        try:
            self.swept = self.now - int(ended) if ended else None
            self.round = _round(at, reply.passed, reply.listed)
            self.counts = {name: int(value) for name, value in _hash(reply.counts).items()}
        except ValueError:
            message = (
                f"a statistic of partition {self.number} is no whole number: delete that field"
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
        asked: list[tuple[list[str], ServerFunction[Any]]] = [one.asked() for one in unread]
        known, *replies = yield from ask_reachable([([keys.meta()], Namespace()), *asked])
        for one, reply in zip(unread, replies, strict=True):
            one.take(reply)
        # Others may have added some since.
        partitions = None if isinstance(known, StoreUnavailable) else known.now
        found += [_Partition(keys, number) for number in range(len(found), partitions or 0)]
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
        queues=_throughput(found),
        workflows=_ended(counts),
    )


def _ended(counts: Mapping[str, int]) -> dict[tuple[str, str], int]:
    """How many workflows of a name have ended in a state (``throughput.lua``)."""
    fields = {tuple(field_.split("|")): count for field_, count in counts.items()}
    return {
        (parts[1], parts[2]): count
        for parts, count in fields.items()
        if parts[0] == "we" and len(parts) == 3
    }


def _throughput(partitions: Sequence[_Partition]) -> dict[str, Throughput]:
    """Ends of steps by queue (``throughput.lua``)."""
    ended: Counter[str] = Counter()
    of_late: Counter[str] = Counter()
    for one in partitions:
        oldest = one.now // _MINUTE_MS - _MINUTES
        for field_, count in one.counts.items():
            code, _, name = field_.partition("|")
            if code == "qe":
                ended[name] += count
            elif code == "qm":
                minute, number = divmod(count, _PER_MINUTE)
                if oldest <= minute <= oldest + _MINUTES:
                    of_late[name.partition("|")[0]] += number
    now = max((one.now for one in partitions), default=0)
    minutes = _MINUTES + now % _MINUTE_MS / _MINUTE_MS
    return {
        name: Throughput(count, of_late[name] / minutes) for name, count in sorted(ended.items())
    }


def _round(sweep: Mapping[str, str], passed: int, listed: int) -> float:
    """How long a sweep of open workflows takes, in milliseconds; ``passed`` of ``listed`` of them
    are behind the present one."""
    expected = float(max(int(sweep.get(f"open:{name}", 0)) for name in ("interval", "took")))
    if passed and "open:seen" in sweep:
        # Up to when it came there: of one that stands still nobody knows how long it will take.
        so_far = int(sweep["open:seen"]) - int(sweep["open:began"])
        expected = max(expected, so_far * listed / passed)
    return expected


def _hash(flat: Sequence[bytes]) -> dict[str, str]:
    texts = [part.decode(errors="replace") for part in flat]
    return dict(zip(texts[::2], texts[1::2], strict=True))
