"""Going through the due timers of a partition."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Final, NamedTuple

from rwf.errors import StoreUnavailable
from rwf.model.limits import AHEAD_MS
from rwf.ops.base import OpContext, ask_reachable
from rwf.protocol.functions.timers import DueTimers, DueTimersPage
from rwf.protocol.keys import is_digest, partition_of
from rwf.protocol.members import Timer
from rwf.protocol.requests import Op, ask

_TIMERS_PER_CALL: Final = 100
_OF_STEP: Final = frozenset("rl")
_OF_WORKFLOW: Final = frozenset("wuxbd")
_OF_TOPIC: Final = frozenset("s")


class Page(NamedTuple):
    """Some due timers, as stored, and the seconds until the next is due, None without one.

    ``overdue`` are those that have been due the longest. Where these fill a page, ``late`` are as
    many of those that have become due since the look before, the latest first: a backlog does not
    hold up what is due now.
    """

    overdue: Sequence[bytes]
    late: Sequence[bytes]
    next_in: float | None

    @property
    def members(self) -> list[bytes]:
        """All of them, each once."""
        return list(dict.fromkeys([*self.overdue, *self.late]))


class Rest(NamedTuple):
    """The state after a page: how many of its timers were carried out; whether more are due;
    and the seconds until the next is, None without one. ``following`` is the next page where it is
    known already."""

    done: int
    more: bool
    next_in: float | None
    following: Page | None


@dataclass(slots=True)
class PassedOver:
    """The timers in front of a partition's others that could not be carried out; and when it was
    last looked at, in milliseconds of the server, None at first.

    ``before`` is such a time from before the server's clock was set back, as long as the timers
    that were set by it are still to be brought to the clock; ``places`` is how far that has come.
    """

    count: int = 0
    last: bytes = b""
    looked: int | None = None
    before: int | None = None
    places: dict[str, int] = field(default_factory=dict)

    def look(self, now: int) -> None:
        """Records a look at them, at this time of the server."""
        if self.looked is not None and now < self.looked - AHEAD_MS:
            self.before = self.looked
            self.places = dict.fromkeys(("timers", "outbox"), 0)
        self.looked = now


@dataclass(slots=True)
class Due:
    """A partition's due timers, page by page: the longest overdue, and beside a backlog of them
    those that become due.

    What cannot be carried out stays, and stands in ``passed`` from then on: it holds up nothing
    that comes behind it. Whoever wants it tried again begins with an empty one.
    """

    ctx: OpContext
    partition: int
    passed: PassedOver = field(default_factory=PassedOver)

    def page(self) -> Op[Page]:
        """The next page."""
        return self._read((yield from ask(self._keys, self._look())))

    @property
    def _keys(self) -> list[str]:
        return self.ctx.keys.partition(self.partition)

    def _look(self) -> DueTimers:
        passed = self.passed
        return DueTimers(_TIMERS_PER_CALL, passed.count, passed.last, passed.looked)

    def _read(self, found: DueTimersPage) -> Page:
        self.passed.count = found.left_out
        self.passed.look(found.now_ms)
        next_ms = found.next_in_ms
        return Page(found.overdue, found.late, None if next_ms is None else next_ms / 1000)

    @staticmethod
    def pages(dues: Sequence[Due]) -> Op[list[Page | StoreUnavailable]]:
        """The next page of each of several partitions, in one round trip, or why it cannot be had.

        Raises StoreUnavailable when none answers.
        """
        found = yield from ask_reachable([(due._keys, due._look()) for due in dues])
        return [
            one if isinstance(one, StoreUnavailable) else due._read(one)
            for due, one in zip(dues, found, strict=True)
        ]

    def leave_behind(self, page: Page) -> Op[Rest]:
        """Notes which timers of the page are still due after its work."""
        left = yield from self.page()
        stuck = list(takewhile(set(page.members).__contains__, left.overdue))
        if stuck:
            self.passed.count, self.passed.last = self.passed.count + len(stuck), stuck[-1]
        more = len(page.overdue) == _TIMERS_PER_CALL or len(left.overdue) > len(stuck)
        rest = left._replace(overdue=left.overdue[len(stuck) :])
        following = rest if more and rest.members else None
        return Rest(len(page.members) - len(stuck), more, left.next_in, following)

    def timers(self, page: Page) -> Iterator[Timer]:
        """Those of a page that name something which can be in this partition."""
        for member in page.members:
            kind, owner, step = timer = Timer.parse(member)
            if kind in _OF_TOPIC:
                is_whole = not step and is_digest(
                    owner, self.partition, self.ctx.keys.home_partitions
                )
            else:
                known = kind in (_OF_STEP if step else _OF_WORKFLOW) and "|" not in step
                is_whole = known and partition_of(owner) == self.partition
            if is_whole:
                yield timer
