"""Removing what is over: finished workflows after their retention, signals that nobody took.

A workflow first stops being there, in one call; what belongs to it goes in further calls, each of
them idempotent, and anybody can go on where a dead client has stopped:

    its insert key        at the key's home, if the key is still its own
    its waits' topics     at their homes: what they know of it, and the signals that it consumed
    its own keys
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rwf.errors import StoreUnavailable
from rwf.model.views import PruneReport
from rwf.store.catalog import Arg, Call, Op
from rwf.store.ops.base import Scope, all_partitions, invalid
from rwf.store.ops.due import Due, Page
from rwf.store.ops.waits import (
    Topic,
    Unsettled,
    hand_over,
    judge_topic,
    number_of,
    settle,
    settle_waits,
)

Progress = Callable[[PruneReport], object]
"""What is called now and then with what was removed so far."""


def prune(scope: Scope, workflow_id: str) -> Op[bool]:
    """Removes a finished workflow, if its time is over; whether it was this that removed it."""
    unsettled: Unsettled = {}
    place = b""
    while True:
        what, *rest = yield scope.on_workflow("prune", workflow_id, [place])
        if what == b"untold":
            yield from settle_waits(scope, workflow_id)
        elif what == b"removing":
            place, keyed, waits = rest
            if keyed:
                yield _unreserve(scope, workflow_id, keyed)
            yield from _forget(scope, workflow_id, waits, unsettled)
        else:
            yield from settle(scope, unsettled)
            return bool(what == b"removed")


def _unreserve(scope: Scope, workflow_id: str, keyed: bytes) -> Call:
    home, digest, _ = keyed.decode().split(":")
    return Call("unreserve", scope.keys.partition(int(home)), [digest, workflow_id])


def _forget(scope: Scope, workflow_id: str, waits: Sequence[Any], unsettled: Unsettled) -> Op[None]:
    """Has the topics of these waits forget them."""
    by_topic: dict[bytes, list[Arg]] = {}
    for step, signal_id, topic in waits:
        number = number_of(signal_id.decode()) if signal_id else ""
        by_topic.setdefault(topic, []).extend([step, number])
    for text, args in by_topic.items():
        topic = Topic.stored(text)
        handed = yield topic.call(scope, "forget", [*topic.names, workflow_id, *args])
        yield from hand_over(scope, topic, handed, unsettled, None)


class Pruning:
    """One run over all partitions, a page of timers of each at a time; ``done`` once it is over."""

    def __init__(self, scope: Scope, progress: Progress | None) -> None:
        if progress is not None and not callable(progress):
            raise invalid("prune", "progress must be callable, or None")
        self.done = False
        self._scope = scope
        self._progress = progress
        self._dues: list[Due] | None = None
        self._workflows = 0
        self._signals = 0
        self._unreachable: set[int] = set()

    def report(self) -> PruneReport:
        """What this run has removed so far."""
        return PruneReport(
            workflows=self._workflows,
            signals=self._signals,
            unreachable=tuple(sorted(self._unreachable)),
        )

    def tell(self) -> None:
        """Tells the caller how far it is."""
        if self._progress is not None:
            self._progress(self.report())

    def page(self) -> Op[None]:
        """Removes what one page of the due timers of each partition names."""
        if self._dues is None:
            numbers = yield from all_partitions(self._scope, anew=True)
            self._dues = [Due(self._scope, number) for number in numbers]
        pages = yield from Due.pages(self._dues)
        left: list[Due] = []
        for due, page in zip(self._dues, pages, strict=True):
            if isinstance(page, StoreUnavailable):
                self._away(due, page)
            elif page.members:
                try:
                    more = yield from self._remove(due, page)
                except StoreUnavailable as error:
                    self._away(due, error)
                else:
                    left += [due] if more else []
        self._dues = left
        self.done = not left

    def _away(self, due: Due, error: StoreUnavailable) -> None:
        self._unreachable.add(due.partition)
        self._scope.away.note({due.partition: error})

    def _remove(self, due: Due, page: Page) -> Op[bool]:
        """Removes what a page names; whether more is due there."""
        for kind, owner, _ in due.timers(page):
            if kind == "x":
                self._workflows += yield from prune(self._scope, owner)
            elif kind == "s":
                self._signals += yield from judge_topic(self._scope, owner)
        return (yield from due.leave_behind(page)).more
