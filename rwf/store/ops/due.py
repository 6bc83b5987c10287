"""Walking through the timers of a partition that are due."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from rwf.store.catalog import Call, Op
from rwf.store.ops.base import Scope

_TIMERS_PER_CALL: Final = 100


class Timer(NamedTuple):
    """A member of the timers: its kind, whose it is (a workflow or a topic's digest), its step."""

    kind: str
    owner: str
    step: str = ""


@dataclass(slots=True)
class Due:
    """A partition's due timers, page by page, the longest overdue first.

    What cannot be carried out stays, and is passed over: it never holds up what comes behind it.
    """

    scope: Scope
    partition: int
    done: int = 0
    """How many timers of the pages so far were carried out."""
    last: bool = False
    """Whether there is no further page."""
    passed_over: int = 0

    def page(self) -> Op[list[Timer]]:
        """The next page."""
        timers = yield from self._timers(self.passed_over, _TIMERS_PER_CALL)
        self.last = len(timers) < _TIMERS_PER_CALL
        return timers

    def leave_behind(self, timers: Sequence[Timer]) -> Op[None]:
        """Notes which timers of the page are still due after its work."""
        left = yield from self._timers(0, self.passed_over + len(timers))
        stuck = len(set(left) & set(timers))
        self.done += len(timers) - stuck
        self.passed_over += stuck

    def _timers(self, skipped: int, most: int) -> Op[list[Timer]]:
        keys = self.scope.keys.partition(self.partition)
        members = yield Call("timers", keys, [skipped, most])
        return [Timer(*member.decode().split("|")) for member in members]
